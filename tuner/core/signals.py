"""Signals: the first one ends the command in order, the second at once; both wait until what is written is whole."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Terminated(BaseException):
    """SIGTERM arrived."""


class TimeIsOver(BaseException):
    """The time that a run was given is over: what is under way is given up, what is finished counts."""


def ends_the_command(error: BaseException) -> bool:
    """Return whether an exception comes from a signal, and so is nobody's fault.

    A KeyboardInterrupt that the user's code raises itself is an exception like any other.
    """
    if isinstance(error, Terminated):
        return True
    if not isinstance(error, KeyboardInterrupt):
        return False
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        return True  # in a program of the user's, where nothing tells the two apart
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    return innermost is not None and innermost.tb_frame.f_code.co_filename == __file__


def listen() -> None:
    """Have SIGINT raise KeyboardInterrupt and SIGTERM Terminated, once; whichever comes second ends the process.

    Workers end with this process, and files are written whole or not at all, so nothing finished is lost then either.
    """
    stopping = False

    def stop(number: int, _: Any) -> None:
        nonlocal stopping
        if stopping:
            _leave(number)
        stopping = True
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
    except ValueError:
        return  # not the main thread: signals do not come here
    atexit.unregister(_ignore)
    atexit.register(_ignore)


def _ignore() -> None:
    """Ignore signals from here on: while the interpreter shuts down, handlers and with them exit codes are gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _leave(number: int) -> None:
    """End this process now; the live display may have hidden the cursor."""
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), b"\x1b[?25h\n")
    os._exit(128 + number)


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
