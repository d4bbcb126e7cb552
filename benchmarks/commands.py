"""How long a command takes until its first page is there."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {"tuner --help": ["--help"], "tuner status": ["status"], "tuner explain LR301": ["explain", "LR301"]}


def measure(work: Path, repeats: int) -> dict[str, list[float]]:
    """Run each command `repeats` times, interleaved; return the seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, arguments in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "tuner", *arguments], capture_output=True, cwd=work)
            seconds[name].append(round(time.perf_counter() - start, 4))
    return seconds
