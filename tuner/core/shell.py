"""Commands that are printed for a person to type: quoted as the shell of this system splits them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

ON_WINDOWS = os.name == "nt"


def line_of(words: Sequence[str], windows: bool = ON_WINDOWS) -> str:
    """Return the command line that the shell splits into these words; no shell of Windows knows single quotes."""
    if not windows:
        return shlex.join(words)
    from subprocess import list2cmdline

    return list2cmdline(words)


def broken_lines(command: str, width: int, windows: bool = ON_WINDOWS) -> list[str]:
    """Break a command at its spaces, each line but the last ending in a backslash; quoted parts stay whole.

    On Windows it stays one line: its shells go on after other characters, each after one of its own.
    """
    try:
        words = [] if windows else [shlex.quote(word) for word in shlex.split(command)]
    except ValueError:
        words = []
    if not words:
        return [command]
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 1 + len(word) <= width - 2:
            lines[-1] += " " + word
        else:
            lines.append(word if not lines else "    " + word)
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]
