"""Signals that wait until what is being written is whole."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM until the block has ended, then deliver them."""
    held: list[tuple[int, Any]] = []
    before: dict[signal.Signals, Callable[..., Any] | int | None] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, lambda *args: held.append(args))
    except ValueError:  # not the main thread: signals do not come here
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for held_number, frame in held:
            if callable(action := before[signal.Signals(held_number)]):
                action(held_number, frame)
