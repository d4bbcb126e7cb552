"""The errors that a user can meet. Each says what is wrong and how to fix it.

TunerError(message, hint)
|- UsageError 2          recipe, unknown name, settings, search space
|- InputError 3          missing, stale, locked, corrupt artifact or data file
|- UserCodeError 4       the user's file raised: their path:line and frames only
`- EnvironmentProblem 5  device, disk, missing extra

The number is the exit code of the command line. Anything else that reaches the top is a bug of ours (70).
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tuner.core.signals import ends_the_command


class TunerError(Exception):
    """Carry one message and one hint to the user; `exit_code` is the command's."""

    exit_code = 70

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self):
        return type(self), (self.message, self.hint)

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(TunerError):
    """Say that the recipe, a name, a setting or the search space is wrong."""

    exit_code = 2


class InputError(TunerError):
    """Say that an artifact or a data file is missing, stale, locked or corrupt."""

    exit_code = 3


class UserCodeError(TunerError):
    """Say that the user's own function raised; the message holds their frames only."""

    exit_code = 4


class EnvironmentProblem(TunerError):
    """Say that the machine lacks something: a device, disk space, an extra package."""

    exit_code = 5


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` - did you mean 'x'?`, or an empty string when nothing known is close."""
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.6)
    return f" - did you mean {close[0]!r}?" if close else ""


def text_of(error: BaseException) -> str:
    """Return `Type: message` of an exception, or its type alone where it has no message or cannot give it."""
    try:
        message = str(error).strip()
    except Exception as again:
        message = f"(its message cannot be shown: __str__ raised {type(again).__name__})"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message: where C++ raised, its stack follows. Its type alone if empty.

    Python's own built-in errors say little without their type (`float division by zero`, `tuple index out of range`).
    """
    lines = text_of(error).partition(": ")[2].splitlines()
    if not lines:
        return type(error).__name__
    plain = isinstance(error, (TypeError, ValueError, AssertionError, RuntimeError)) and not isinstance(
        error, RecursionError
    )
    return lines[0] if plain else f"{type(error).__name__}: {lines[0]}"


def user_frames(error: BaseException, folder: Path) -> str:
    """Format the frames of `error` that lie in the user's `folder`, and the exception itself."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_theirs(frame.filename, folder)]
    lines = traceback.format_list(frames) + traceback.format_exception_only(error)
    return "".join(lines).rstrip()


def where_in_user_code(error: BaseException, folder: Path) -> str | None:
    """Return `path:line` of the innermost of the user's frames, or None when none is theirs."""
    if isinstance(error, SyntaxError) and error.filename and _is_theirs(error.filename, folder):
        return f"{Path(error.filename).resolve()}:{error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _is_theirs(frame.filename, folder):
            return f"{Path(frame.filename).resolve()}:{frame.lineno}"
    return None


OURS = Path(__file__).resolve().parents[1]


def _is_theirs(filename: str, folder: Path) -> bool:
    """Return whether a frame's file lies in the user's folder; `<frozen importlib>` and the like are nobody's.

    Nor are tuner's own, wherever it is installed: a check in Python runs from any folder.
    """
    if filename.startswith("<") or "site-packages" in filename:
        return False
    file = Path(filename).resolve()
    return file.is_relative_to(folder.resolve()) and not file.is_relative_to(OURS)


@contextmanager
def user_code(what: str, folder: Path) -> Iterator[None]:
    """Turn whatever the user's function raises into a UserCodeError that shows only their frames.

    An exception with no frame in `folder` passes unchanged: it is not their code that raised it. `sys.exit` and a
    KeyboardInterrupt of their own count as raising: a run that ended there would look finished, or interrupted.
    """
    try:
        yield
    except TunerError:
        raise
    except BaseException as error:
        where = None if ends_the_command(error) else where_in_user_code(error, folder)
        if where is None:
            raise
        raised = (
            f"not valid Python: {error.msg}" if isinstance(error, SyntaxError) else f"{what} raised {text_of(error)}"
        )
        message = f"{where}: {raised}\n{user_frames(error, folder)}"
        raise UserCodeError(message, _hint_of(error) or "Fix that line, then give the same command again.") from error


def _hint_of(error: BaseException) -> str:
    """Return what to do about code that ends the program (most often argparse in a module that is imported), or that
    has tensors on the CPU which meet others on a GPU.
    """
    if "on the same device" in str(error) or "device type tensor to numpy" in str(error):
        return (
            "Make tensors where the inputs are: torch.arange(n, device=x.device); keep those of a module by "
            "self.register_buffer and its layers in nn.ModuleList, which are moved with it; .cpu() before .numpy()."
        )
    if not isinstance(error, SystemExit):
        return ""
    return 'Put what parses the command line, or exits, under `if __name__ == "__main__":`.'
