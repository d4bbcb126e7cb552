"""Run a command by the clock of an idle machine: `python -m benchmarks.idle_clock [--cores N] COMMAND...` (Linux).

On a shared machine a wall clock says how busy the others were. Here the clocks of Python, in the command and all that
it starts, go only as fast as the command would have come forward on N cores of its own: the time on a core that its
threads got over the last second (`/proc/PID/task/TID/schedstat`), over what they could have used at once. Where they
wait for nothing but themselves it goes like a wall clock. What an idle machine gives beside cores (caches, memory
bandwidth, turbo) is not put right.
"""

from __future__ import annotations

import argparse
import math
import mmap
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EVERY = 0.02  # seconds between looks
OVER = 1.0  # seconds of a running mean: that a thread has waited is known only when it runs again
SITE = Path(__file__).with_name("idle_clock_site")
FORM = struct.Struct("<dddd")  # seconds of the clock, the wall clock then, its speed, the time of day when it began


def pace(running: float, waiting: float, cores: int) -> float:
    """Return how fast the clock goes, of threads that ran and that waited for a core, in cores over the interval."""
    wanted = running + waiting
    if wanted <= 1.0:  # alone: what it waited for is lost
        return 1.0 - waiting
    return min(1.0, running / min(wanted, cores))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle_clock", description=__doc__)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="of the idle machine (default: all)")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = [part for part in options.command[:1] if part != "--"] + options.command[1:]
    with tempfile.NamedTemporaryFile(prefix="idle-clock-") as file:
        file.write(FORM.pack(0.0, time.monotonic(), 1.0, time.time()))
        file.flush()
        path = os.pathsep.join([str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(command, env={**os.environ, "IDLE_CLOCK": file.name, "PYTHONPATH": path})
        with mmap.mmap(file.fileno(), FORM.size) as shared:
            clock = keep_time(process, shared, options.cores)
    print(f"idle clock: {clock[0]:.1f} s in {clock[1]:.1f} s of wall time", file=sys.stderr)
    return process.returncode


def keep_time(process: subprocess.Popen[bytes], shared: mmap.mmap, cores: int) -> tuple[float, float]:
    """Advance the clock until the command has ended; return its seconds, and those of the wall clock."""
    began = last = time.monotonic()
    day, clock, mean = time.time(), 0.0, (0.0, 0.0)
    seen: dict[int, tuple[float, float]] = {}
    while process.poll() is None:
        time.sleep(EVERY)
        now, known = time.monotonic(), seen
        seen = {task: used for task, used in used_by(process.pid)}
        gone = [sum(used[i] - known.get(task, (0.0, 0.0))[i] for task, used in seen.items()) for i in (0, 1)]
        share = 1.0 - math.exp((last - now) / OVER)
        cores_now = [max(0.0, seconds) / (now - last) for seconds in gone]
        mean = (mean[0] + share * (cores_now[0] - mean[0]), mean[1] + share * (cores_now[1] - mean[1]))
        speed = pace(*mean, cores)
        clock += speed * (now - last)
        shared[: FORM.size] = FORM.pack(clock, now, speed, day)
        last = now
    return clock, last - began


def used_by(root: int) -> list[tuple[int, tuple[float, float]]]:
    """Return (thread, (seconds on a core, seconds waiting for one)) of a process and everything it has started."""
    found = []
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                place = f"/proc/{pid}/task/{task}"
                ran, waited, _ = Path(place, "schedstat").read_text().split()
                found.append((int(task), (int(ran) / 1e9, int(waited) / 1e9)))
                waiting += map(int, Path(place, "children").read_text().split())
        except (OSError, ValueError):
            continue  # it has ended
    return found


if __name__ == "__main__":
    sys.exit(main())
