"""Reading what a stranger may have put there: a run folder that was sent by mail is data, and no more than that.

Nothing is read from a link, a device or a pipe, nothing is written or deleted through a link, ids and names have their
form, numbers are finite, and nesting is bounded.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tuner.core.errors import InputError
from tuner.core.formatting import shown

MAX_LEVELS = 40  # of objects and lists in each other: the deepest artifact has 9
MAX_BYTES = 256 << 20  # of one JSON artifact: the largest, of 50,000 trials, has 60 MB
TRIAL_ID = re.compile(r"[0-9a-f]{12}")
LARGE = re.compile(rb"e\+?\d{3}")  # in a number that may be more than a float holds
AS_DIGIT = bytes(ord("0") if chr(i).isdigit() and i < 128 else i for i in range(256))
DIGITS = b"0" * 300  # in a row, once every digit is written as a 0
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would compute


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading.

    Raises:
        OSError: it cannot be read; it is a link, a folder, a device or a pipe.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("not a regular file")
        yield file


def read_regular(path: Path) -> bytes:
    """Return the content of a regular file of at most MAX_BYTES; raises as `open_regular`, and where it is larger."""
    with open_regular(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > MAX_BYTES:
            raise OSError(f"{size:,} bytes, {MAX_BYTES:,} at most")
        return file.read()


def parse_json(text: bytes) -> Any:
    """Return a JSON value whose numbers are finite; its nesting is bounded by Python's alone (`check_levels`).

    Raises:
        ValueError: it is no such JSON.
    """
    may_be_large = b"E" in text or LARGE.search(text) or DIGITS in text.translate(AS_DIGIT)
    floats = _finite if may_be_large else None  # one by one only then: it takes its time
    try:
        return json.loads(text, parse_float=floats, parse_constant=_finite)
    except RecursionError:
        raise ValueError("nested without end") from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{shown(text)} is no finite number")
    return number


def check_levels(value: Any) -> None:
    """Refuse a value that is nested deeper than whatever copies and prints it can follow.

    Raises:
        ValueError: it has more than MAX_LEVELS levels.
    """
    level = [value]
    for _ in range(MAX_LEVELS + 1):
        level = [
            item
            for outer in level
            if isinstance(outer, (dict, list))
            for item in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(item, (dict, list))
        ]
        if not level:
            return
    raise ValueError(f"nested more than {MAX_LEVELS} levels deep")


def refuse_links(folder: Path) -> None:
    """Refuse a run folder that holds links: what is written into it, or deleted from it, would lie elsewhere.

    The folder itself may be one: it is the user's own choice.

    Raises:
        InputError: "is a link"; the first few are named.
    """
    links = sorted(_links(str(folder)))[:5]
    if links:
        raise InputError(
            "\n".join(f"{path}: is a link; tuner writes and deletes nothing through links" for path in links),
            "Put the files themselves there, or choose another folder with --run-dir.",
        )


def _links(folder: str) -> list[str]:
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:  # another command may just delete it
        for entry in entries:
            if entry.is_symlink():
                found.append(entry.path)
            elif entry.is_dir(follow_symlinks=False):
                found += _links(entry.path)
    return found


def cell(value: Any) -> Any:
    """Return a value for a CSV file: a text that a spreadsheet would compute (`=1+1`) is quoted with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def is_trusted(path: Path) -> bool:
    """Return whether a file is this user's (or the administrator's) and nobody else can write it.

    Windows has no such owners and modes: there every file of the user's own cache folder is.
    """
    if not hasattr(os, "getuid"):
        return True
    try:
        info = os.lstat(path)
    except OSError:
        return False
    ours = info.st_uid in (os.getuid(), 0)
    return stat.S_ISREG(info.st_mode) and ours and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def kind_problem(value: Mapping[str, Any], kinds: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the kinds of an object's values, or None; a bool is no number.

    `kinds`: {key: a type, or several}.
    """
    for key, kind in kinds.items():
        if key not in value:
            return f"it has no {key!r}"
        item = value[key]
        wanted = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(item, kind) or (isinstance(item, bool) and bool not in wanted):
            return f"{key} is {shown(item)}"
    return None
