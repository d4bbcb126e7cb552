"""How a command ends: errors, signals and bugs become exit codes. The codes are drawn in `tuner.core.errors`."""

from __future__ import annotations

import json
import shlex
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuner.core.errors import TunerError
from tuner.core.signals import Terminated, listen


@contextmanager
def exit_codes(as_json: bool, debug: bool, run_dir: list[Path]) -> Iterator[None]:
    """Show what goes wrong in the block as the user should see it, and end the command with its exit code.

    `run_dir`: empty, or the run's folder, where the traceback of a bug of ours is saved.
    """
    listen()
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(_stopped(130, "Interrupted", as_json)) from None
    except Terminated:
        raise SystemExit(_stopped(143, "Terminated", as_json)) from None
    except TunerError as error:
        if debug:
            traceback.print_exc()
        fail(error.exit_code, error.message, error.hint, as_json)
        raise SystemExit(error.exit_code) from None
    except Exception as error:
        saved = _save_traceback(run_dir)
        if debug:
            traceback.print_exc()
        message = f"a bug of tuner: {type(error).__name__}: {error}"
        fail(70, message, f"The traceback is in {saved}; finished trials are kept. Please report it.", as_json)
        raise SystemExit(70) from None


def _stopped(code: int, word: str, as_json: bool) -> int:
    command = shlex.join(["tuner", *sys.argv[1:]])
    fail(code, f"{word}. What was finished is kept.", f"The same command goes on from here: {command}", as_json)
    return code


def fail(code: int, message: str, hint: str, as_json: bool) -> None:
    """Print an error: `error` and `hint` on stderr, or one JSON object on stdout."""
    if as_json:
        print(json.dumps({"error": {"code": code, "message": message, "hint": hint}}))
        return
    from tuner.view.errors import show_error
    from tuner.view.page import make_console

    show_error(TunerError(message, hint), make_console(stderr=True))


def _save_traceback(run_dir: list[Path]) -> Path | str:
    folder = run_dir[0] if run_dir else Path(".")
    path = folder / f"traceback-{time.strftime('%Y%m%d-%H%M%S')}.txt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(traceback.format_exc())
    except OSError as error:
        return f"no file ({error.strerror}); --debug prints it"
    return path
