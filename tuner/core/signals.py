"""Signals: the first one ends the command in order, the second at once; both wait until what is written is whole."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

AGAIN_SECONDS = 0.01


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


_received: int | None = None
_is_lost = False  # its exception went nowhere, so it will come again, unless what comes first is taken for it
_shown: Callable[[Any], Any] = sys.__unraisablehook__


def received() -> int | None:
    """Return the number of the signal that is ending the command, or None.

    Libraries that are written in C or Rust make errors of their own of what is raised within them; so any error that
    comes after a signal is the signal's, also where its own exception went nowhere. It is answered by asking.
    """
    global _is_lost
    _is_lost = False
    return _received


def listen() -> None:
    """Have SIGINT raise KeyboardInterrupt and SIGTERM Terminated, once; whichever comes second ends the process.

    Workers end with this process, and files are written whole or not at all, so nothing finished is lost then either.
    Harmless where it is done already.
    """
    global _received, _is_lost, _shown
    if signal.getsignal(signal.SIGTERM) is _stop:
        return
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stop)
    except ValueError:
        return  # not the main thread: signals do not come here
    _received, _is_lost = None, False
    atexit.unregister(ignore)
    atexit.register(ignore)  # while the interpreter shuts down, handlers and with them exit codes are gone
    if sys.unraisablehook is not _unraisable:
        _shown, sys.unraisablehook = sys.unraisablehook, _unraisable


def _stop(number: int, _: Any) -> None:
    global _received, _is_lost
    if _received is not None and not _is_lost:
        _leave(number)
    _received, _is_lost = number, False
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def _unraisable(lost: Any) -> None:
    """Send a signal again whose exception went nowhere, as it came within a finalizer."""
    global _is_lost
    if _received is None or not isinstance(lost.exc_value, (KeyboardInterrupt, Terminated)):
        _shown(lost)
        return
    _is_lost = True
    again = threading.Timer(AGAIN_SECONDS, _send_again, (_received,))
    again.daemon = True
    again.start()


def _send_again(number: int) -> None:
    if _is_lost:
        os.kill(os.getpid(), number)


def ignore() -> None:
    """Ignore signals from here on: the command has ended, and its exit code is known."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _leave(number: int) -> None:
    """End this process now; the live display may have hidden the cursor."""
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), b"\x1b[?25h\n")
    os._exit(128 + number)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM until the block has ended, then deliver them, each as if it came now."""
    held: list[int] = []
    before: dict[signal.Signals, Any] = {}
    try:
        with contextlib.suppress(ValueError):  # not the main thread: signals do not come here
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, lambda number, _: held.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        with contextlib.ExitStack() as last_first:  # the second one too, which ends the process
            for held_number in reversed(held):
                last_first.callback(signal.raise_signal, held_number)
