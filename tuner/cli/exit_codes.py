"""How a command ends: errors, signals and bugs become exit codes. The codes are drawn in `tuner.core.errors`."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuner.core.errors import TunerError, UsageError, text_of
from tuner.core.formatting import clipped
from tuner.core.shell import line_of
from tuner.core.signals import Terminated, listen, received

MAX_LINE_CHARACTERS = 400
MAX_HINT_CHARACTERS = 400
MAX_MESSAGE_CHARACTERS = 1500  # with the hint less than 2 kB


@contextmanager
def exit_codes(as_json: bool, debug: bool, run_dir: list[Path]) -> Iterator[None]:
    """Show what goes wrong in the block as the user should see it, and end the command with its exit code.

    `run_dir`: empty, or the run's folder, where the traceback of a bug of ours is saved; else it goes into the system's
    folder of temporary files.
    """
    listen()
    try:
        yield
    except (KeyboardInterrupt, Terminated, Exception) as error:
        if (number := received()) is None and isinstance(error, KeyboardInterrupt):
            number = signal.SIGINT
        raise SystemExit(
            _failed(error, as_json, debug, run_dir) if number is None else _stopped(number, as_json)
        ) from None


def _failed(error: BaseException, as_json: bool, debug: bool, run_dir: list[Path]) -> int:
    """Show an error; return its exit code."""
    if debug:
        traceback.print_exc()
    from tuner.core.store import of_the_disk

    error = of_the_disk(error) or error
    if isinstance(error, TunerError):
        fail(error.exit_code, error.message, error.hint, as_json)
        return error.exit_code
    saved = _save_traceback(run_dir)
    message = f"a bug of tuner: {text_of(error)}"
    fail(70, message, f"The traceback is in {saved}; finished trials are kept. Please report it.", as_json)
    return 70


def _stopped(number: int, as_json: bool) -> int:
    code, word = 128 + number, "Interrupted" if number == signal.SIGINT else "Terminated"
    again = [argument for argument in sys.argv[1:] if argument != "--fresh"]
    so = "Without --fresh, which starts over, the" if len(again) < len(sys.argv[1:]) else "The"
    hint = f"{so} same command goes on from here: {line_of(['tuner', *again])}"
    fail(code, f"{word}. What was finished is kept.", hint, as_json)
    return code


def fail(code: int, message: str, hint: str, as_json: bool) -> None:
    """Print an error: `error` and `hint` on stderr, or one JSON object on stdout."""
    message, hint = brief(message), clipped(hint, MAX_HINT_CHARACTERS)
    if as_json:
        print(json.dumps({"error": {"code": code, "message": message, "hint": hint}}))
        return
    from tuner.view.errors import show_error
    from tuner.view.page import make_console

    show_error(TunerError(message, hint), make_console(stderr=True))


def one_form(html: Path | None, as_json: bool) -> None:
    """Refuse two forms of one report.

    Raises:
        UsageError: both are asked for.
    """
    if html is not None and as_json:
        raise UsageError("--html and --json are two forms of one report", "Leave one of them out.")


def brief(message: str) -> str:
    """Return a message that fits on a screen: long lines lose their middle, and so does a long list of lines."""
    lines = [clipped(line, MAX_LINE_CHARACTERS) for line in message.splitlines()]
    if sum(map(len, lines)) + len(lines) <= MAX_MESSAGE_CHARACTERS:
        return "\n".join(lines)
    first, last = [lines[0]], [lines[-1]]
    room = MAX_MESSAGE_CHARACTERS - len(lines[0]) - len(lines[-1]) - 80
    middle, end = lines[1:-1], len(lines) - 1
    while middle and len(middle[0]) + len(middle[-1]) + 2 < room:
        room -= len(middle[0]) + len(middle[-1]) + 2
        first.append(middle[0])
        if len(middle) > 1:
            last.insert(0, middle[-1])
        middle = middle[1:-1]
    left_out = end + 1 - len(first) - len(last)
    return "\n".join([*first, f"... {left_out} lines left out; --debug shows all ...", *last])


def _save_traceback(run_dir: list[Path]) -> Path | str:
    folder = run_dir[0] if run_dir and run_dir[0].is_dir() else Path(tempfile.gettempdir())
    try:
        handle, path = tempfile.mkstemp(".txt", f"traceback-{time.strftime('%Y%m%d-%H%M%S')}-", folder)
        with open(handle, "w") as file:
            file.write(traceback.format_exc())
    except OSError as error:
        return f"no file ({error.strerror}); --debug prints it"
    return Path(path)
