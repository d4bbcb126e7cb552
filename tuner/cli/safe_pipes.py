"""stdout and stderr whose reader may go away, as in `tuner run ... | head`: the work goes on, unheard.

What their encoding has no character for (a class name on a Windows console) is written as `?`, and ends no command.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any


class Unbreakable:
    """A text stream that turns to nothing when its reader has gone."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._reader():
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with self._reader():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _reader(self) -> Any:
        try:
            yield
        except BrokenPipeError:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)


def make_unbreakable() -> None:
    """Replace stdout and stderr of this process."""
    for name in ("stdout", "stderr"):
        if isinstance(getattr(sys, name), io.TextIOWrapper):
            getattr(sys, name).reconfigure(errors="replace")
        if not isinstance(getattr(sys, name), Unbreakable) and getattr(sys, name) is not None:
            setattr(sys, name, Unbreakable(getattr(sys, name)))
