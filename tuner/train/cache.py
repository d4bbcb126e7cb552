"""Decoded data on disk: made once, for all trials, stages and processes, and opened memory-mapped by all of them.

A file's name holds the hash of everything that made it, so a changed input is another file. It is written under a
temporary name, flushed and renamed; a lock keeps two processes from making it twice.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tuner.core import cached
from tuner.core.cached import DECODED, sidecar, size_words
from tuner.core.errors import EnvironmentProblem
from tuner.core.locks import hold
from tuner.core.safe_files import is_trusted
from tuner.core.trial import digest
from tuner.parts.examples import OnProgress, Stored

opened: set[str] = set()  # the names of the files that this process has read

FORMAT = 1  # raise when the meaning of a cached array changes
MARGIN_BYTES, MARGIN_SHARE = 1 << 30, 0.05  # of the disk that decoded data leave free: the smaller of the two


class NoRoom(EnvironmentProblem):
    """Say that the disk has no room for the decoded data."""


def cache_folder(given: Path | None = None) -> Path:
    """Return the given cache folder, or the user's."""
    return cached.cache_folder() if given is None else Path(given)


def cache_path(stored: Stored, folder: Path) -> Path:
    """Return where the array lies, whether or not it is there yet."""
    return folder / DECODED / f"{stored.name}-{digest([FORMAT, stored.key])[:20]}.npy"


def open_stored(stored: Stored, folder: Path, on_progress: OnProgress) -> np.ndarray:
    """Return the array memory-mapped, made first if the disk does not hold it whole.

    The mapping is copy-on-write: processes share its pages, and a write by mistake stays in the process that made it.

    Raises:
        NoRoom: the disk has no room for the array; nothing was written.
        EnvironmentProblem: the disk is full, or the cache folder cannot be written; nothing half-written stays.
    """
    path = cache_path(stored, folder)
    opened.add(path.name)
    if (array := _mapped(path)) is not None:
        return array
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock"), on_progress):
            if (array := _mapped(path)) is None:  # nobody made it while we waited
                _make(stored, path, on_progress)
                array = _mapped(path)
    except OSError as error:
        raise _problem(error, path) from error
    if array is None:
        raise EnvironmentProblem(f"{path}: written, but not readable", "Check the disk, or set TUNER_CACHE elsewhere.")
    return array


def _mapped(path: Path) -> np.ndarray | None:
    """Map a cached array; None where there is none, a torn one, or one that somebody else can write."""
    if not is_trusted(path):
        return None
    try:
        return np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None


def _make(stored: Stored, path: Path, on_progress: OnProgress) -> None:
    for left_over in path.parent.glob(f"{path.stem}.*.tmp"):  # of a builder that was killed; we hold the lock
        left_over.unlink(missing_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    arrays: list[np.memmap[Any, Any]] = []

    def allocate(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        _require_space(path.parent, size)
        on_progress(0.0, f"{size_words(size)} of decoded data go into {path.parent}")
        arrays.append(_reserved(temporary, shape, np.dtype(dtype)))
        return arrays[0]

    try:
        stored.make(allocate, on_progress)
        arrays[0].flush()
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # whatever the umask: what others can write is not loaded
        about = {"name": stored.name, "source": stored.key.get("source"), "root": stored.key.get("root")}
        sidecar(path).write_text(json.dumps(about))
        os.replace(temporary, path)
        on_progress(1.0, f"{size_words(path.stat().st_size)} of decoded data kept (tuner cache lists them)")
    finally:
        temporary.unlink(missing_ok=True)


def _require_space(folder: Path, size: int) -> None:
    """Refuse to fill the disk.

    Raises:
        NoRoom: "need ..., ... are free"; a margin for everything else on the disk is counted in.
    """
    disk = shutil.disk_usage(folder)
    if size + min(MARGIN_BYTES, MARGIN_SHARE * disk.total) > disk.free:
        raise NoRoom(
            f"{folder}: disk full: the decoded data need {size_words(size)}, {size_words(disk.free)} are free",
            "Free some space (tuner cache --clear), or set TUNER_CACHE to a folder on a larger disk.",
        )


def _reserved(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.memmap[Any, Any]:
    """Make an .npy file whose disk space is reserved: writing a mapped hole on a full disk would kill the process."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    size = path.stat().st_size
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.seek(array.offset)
            for start in range(array.offset, size, 1 << 20):
                file.write(bytes(min(1 << 20, size - start)))
    return array


@contextlib.contextmanager
def _locked(path: Path, on_progress: OnProgress) -> Iterator[None]:
    """Hold a lock, which dies with its process; say so while another process holds it."""

    def wait() -> None:
        on_progress(0.0, "waiting for another process that decodes the same data")

    with hold(path, on_wait=wait, tell=lambda text: on_progress(0.0, text)):
        yield


def _problem(error: OSError, path: Path) -> EnvironmentProblem:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EnvironmentProblem(
            f"{path.parent}: disk full while storing decoded data ({error.strerror})",
            "Free some space, or set TUNER_CACHE to a folder on a larger disk.",
        )
    return EnvironmentProblem(
        f"{path.parent}: decoded data cannot be stored ({error})", "Set TUNER_CACHE to a folder that can be written."
    )
