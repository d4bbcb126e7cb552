"""A process per task, a few at a time: whatever a task does to its process, it costs that task alone."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

PRELOADED = ("tests.zoo.preload",)


@dataclass(frozen=True)
class Ended:
    """How a task's process ended: `finished`, `timeout` (it was killed) or `died`; `detail` says how."""

    task: Any
    how: str
    detail: str
    seconds: float


def each(
    function: Callable[[Any], None],
    tasks: Sequence[Any],
    workers: int,
    timeout_seconds: float,
    preloaded: Sequence[str] = PRELOADED,
) -> Iterator[Ended]:
    """Call `function(task)` for every task in a process of its own, `workers` at a time; yield how each ended.

    The processes are forked from a server that has `preloaded` loaded, torch and what a step needs.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preloaded))
    waiting = list(reversed(tasks))
    running: dict[Any, tuple[Any, Any, float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                task = waiting.pop()
                process = context.Process(target=function, args=(task,), daemon=True)
                process.start()
                running[process.sentinel] = (process, task, time.monotonic())
            oldest = min(started for _, _, started in running.values())
            wait(list(running), max(0.0, oldest + timeout_seconds - time.monotonic()))
            for sentinel, (process, task, started) in list(running.items()):
                seconds = time.monotonic() - started
                if process.exitcode is not None:
                    how = "finished" if process.exitcode == 0 else "died"
                    yield Ended(task, how, f"exit code {process.exitcode}", seconds)
                elif seconds >= timeout_seconds:
                    process.kill()
                    yield Ended(task, "timeout", f"killed after {timeout_seconds:.0f} s", seconds)
                else:
                    continue
                process.join()
                del running[sentinel]
    finally:
        for process, _, _ in running.values():
            process.kill()
            process.join()
