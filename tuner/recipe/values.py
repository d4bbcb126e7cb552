"""What a value of a recipe may be: numbers that a machine holds, text, lists and tables, nested a few levels deep."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping
from typing import Any

from tuner.core.formatting import clipped, shown

MAX_LEVELS = 20  # of tables and lists in each other: the deepest recipe we know has 5
MAX_INTEGER = 2**63 - 1  # what TOML promises, and what torch can take
MAX_KEY_CHARACTERS = 100
MAX_TEXT_CHARACTERS = 10_000


def value_problems(raw: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (dotted key, what is wrong) for every value that no component could be given, wherever it stands.

    The walk is a loop: a value that is nested without end is reported, and costs no stack.
    """
    found = []
    for path, value in _walk(raw):
        if text := _wrong(path, value):
            found.append((clipped(".".join(path), MAX_KEY_CHARACTERS), text))
    return found


def _walk(raw: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (path, value) of everything in a recipe; nothing below MAX_LEVELS."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), raw)]
    while waiting:
        path, value = waiting.pop()
        if path:
            yield path, value
        if len(path) > MAX_LEVELS:
            continue
        items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
        waiting += reversed([((*path, str(name)), item) for name, item in items])


def _wrong(path: tuple[str, ...], value: Any) -> str | None:
    """Return what is wrong with one value, or None."""
    name = path[-1]
    if len(path) > MAX_LEVELS and isinstance(value, (Mapping, list)):
        return f"tables and lists may be nested {MAX_LEVELS} levels deep at most"
    if len(name) > MAX_KEY_CHARACTERS:
        return f"a key has {MAX_KEY_CHARACTERS} characters at most (this one has {len(name):,})"
    if isinstance(value, bool):
        return None
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return f"a whole number has 64 bits at most (got {shown(value)})"
    if isinstance(value, float) and not math.isfinite(value):
        return f"input should be a finite number (got {value!r})"
    if isinstance(value, (datetime.date, datetime.time)):
        return f"a date or a time is no value of a recipe (got {value.isoformat()}): write it as text, in quotes"
    if isinstance(value, str) and len(value) > MAX_TEXT_CHARACTERS:
        return f"a text has {MAX_TEXT_CHARACTERS:,} characters at most (got {len(value):,})"
    if isinstance(value, str) and "\0" in value:
        return f"a text cannot hold the character 0 (got {shown(value)})"
    return None
