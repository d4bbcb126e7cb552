"""What became of a worker process: how it died, whether a new try can help, and where it hung."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from multiprocessing.connection import Connection, wait
from pathlib import Path

TRIES = 2  # a trial whose worker died is tried once more
KILLED_TRIES = 5  # a kill from outside says nothing of the trial
LOST = 255  # multiprocessing's exit code of a process whose fork server was killed
SIGKILL = 9  # by its number, as Windows does not know its name
DUMP_SIGNAL = getattr(signal, "SIGUSR1", None)  # a worker answers it with the stack of its threads; not on Windows
_FRAME = re.compile(r'File "(?P<path>.+)", line (?P<line>\d+) in (?P<name>.+)')


def memory_kills() -> int | None:
    """Return how many processes the kernel has killed because memory ran out; None where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return None


def tries(exitcode: int | None, memory_kills_before: int | None) -> int:
    """Return how often in all a trial is tried whose worker ended like this."""
    outside = exitcode in (-SIGKILL, LOST) and _for_memory(memory_kills_before) is False
    return KILLED_TRIES if outside else TRIES


def words(exitcode: int | None, memory_kills_before: int | None) -> str:
    """Say how a worker died."""
    if exitcode == LOST:
        return "together with the server that it was forked from"
    if exitcode is None or exitcode >= 0:
        return f"exit code {exitcode}: it ended itself, as with os._exit"
    if exitcode != -SIGKILL:
        return next((known.name for known in signal.Signals if known == -exitcode), f"signal {-exitcode}")
    name = "SIGKILL"
    why = {True: "by the kernel, out of memory", None: "perhaps out of memory", False: "from outside"}
    return f"{name}, {why[_for_memory(memory_kills_before)]}"


def _for_memory(before: int | None) -> bool | None:
    now = memory_kills()
    return None if now is None or before is None else now > before


def where_it_hangs(pid: int, answers: Connection, recipe_dir: Path) -> str:
    """Ask a worker for its stack; return `, stuck at path:line in function`, the user's frame first, or nothing."""
    if DUMP_SIGNAL is None:
        return ""
    with contextlib.suppress(OSError):
        os.kill(pid, DUMP_SIGNAL)
        text, until = b"", time.monotonic() + 2.0
        while time.monotonic() < until and wait([answers], timeout=0.3 if text else 1.0):
            if not (part := os.read(answers.fileno(), 65536)):
                break
            text += part
        return _place(text.decode(errors="replace"), recipe_dir.resolve())
    return ""


def _place(stack: str, recipe_dir: Path) -> str:
    frames = [(match["path"], match["line"], match["name"]) for match in _FRAME.finditer(stack)]
    mine = [frame for frame in frames if "site-packages" not in frame[0] and Path(frame[0]).is_relative_to(recipe_dir)]
    last = stack.rfind("hread 0x")  # the main thread is the last
    main = [(match["path"], match["line"], match["name"]) for match in _FRAME.finditer(stack[max(last, 0) :])]
    found = mine or main
    return f", stuck at {found[0][0]}:{found[0][1]} in {found[0][2]}" if found else ""
