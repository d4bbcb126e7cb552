"""The processes of a trial: one, or as many as it has devices. The first answers, the others train along with it.

Trials that are trained as a stack have one process between them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tuner.core.trial import Rank, TrialEnv, WorkItem
from tuner.execute.slots import Slot
from tuner.execute.start import Process, start

DEATH_SECONDS = 1.0  # in which a death shows after a failure that may be its consequence


class Crew:
    """What the supervisor holds of a trial's processes, as if they were one: they are started and ended together.

    The death of one, or a failure in one, is the trial's.
    """

    def __init__(self, slot: Slot, items: Sequence[WorkItem], env: TrialEnv) -> None:
        self._dead = 0
        item = items[0]
        self._processes: list[Process] = []
        self._folder = tempfile.TemporaryDirectory(prefix="tuner-") if item.devices > 1 else None
        try:
            if len(items) > 1:
                self._processes.append(start(slot, "stack", items, env))
                return
            for number in range(item.devices):
                self._processes.append(start(slot, "trial", item, self._env_of(number, item.devices, env)))
        except BaseException:
            self.end()
            raise

    def _env_of(self, number: int, count: int, env: TrialEnv) -> TrialEnv:
        if self._folder is None:
            return env
        device = f"{env.device}:{number}" if env.device == "cuda" else env.device
        return replace(env, device=device, rank=Rank(number, count, Path(self._folder.name) / "meeting"))

    @property
    def pipes(self) -> Sequence[Connection]:
        """Return what news comes by."""
        return [process.pipe for process in self._processes]

    @property
    def first(self) -> Process:
        """Return the process that answers."""
        return self._processes[0]

    @property
    def exitcode(self) -> int | None:
        """Return how the process ended that was found dead; else the first."""
        return self._processes[self._dead].exitcode

    def has_news(self) -> bool:
        return any(process.pipe.poll() for process in self._processes)

    def receive(self) -> tuple[str, Any] | None:
        """Return the next message that concerns the trial, if there is one.

        Raises:
            EOFError: a process has died.
        """
        for number, process in enumerate(self._processes):
            if not process.pipe.poll():
                continue
            kind, value = self._read(number)
            failed = kind == "raised" or (kind == "result" and value.error is not None)
            if failed:
                self._look_for_a_death(number)
            if failed or number == 0:
                return kind, value
        return None

    def _read(self, number: int) -> tuple[str, Any]:
        try:
            return self._processes[number].pipe.recv()
        except (EOFError, OSError):  # OSError: killed in the middle of a message
            self._dead = number
            raise EOFError from None

    def _look_for_a_death(self, of: int) -> None:
        """Find out whether a failure follows from the death of another process: a connection that was closed."""
        others = {process.pipe: number for number, process in enumerate(self._processes) if number != of}
        until = time.monotonic() + DEATH_SECONDS
        while others and (left := until - time.monotonic()) > 0:
            for pipe in wait(list(others), timeout=left):
                self._read(others[pipe])  # type: ignore[index]

    def kill(self) -> None:
        """Kill the processes and what they have started, without waiting. Safe to call twice."""
        for process in self._processes:
            process.kill()

    def end(self) -> None:
        """Kill the processes and what they have started, and wait until their memory is free. Safe to call twice."""
        self.kill()
        for process in self._processes:
            process.end()
        if self._folder is not None:
            self._folder.cleanup()
