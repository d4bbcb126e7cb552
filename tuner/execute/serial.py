"""Run trials one after the other in this process: for debugging (`--workers 0`), with breakpoints and no deadlines.

A trial is not forked here: a debugger, a profiler or `breakpoint()` sees one process, on any system and with a GPU.
What a trial changed of torch and of this process is put back after it, as far as Python shows it; a trial that ends
the process, or leaks memory, does so to the command.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tuner.core.errors import UsageError
from tuner.core.memory import Room
from tuner.core.preflight import Preflight
from tuner.core.result import TrialResult
from tuner.core.trial import TrialEnv, WorkItem
from tuner.execute.base import OnProgress
from tuner.execute.slots import Slot, Slots, Wish


class SerialExecutor:
    """The simplest executor: a loop."""

    def __init__(self, wish: Wish, on_progress: OnProgress) -> None:
        self.wish = wish
        self.on_progress = on_progress
        self._kind = "cpu"
        self._room: Room | None = None

    @property
    def slots(self) -> Slots:
        return Slots(self._kind, (Slot(0, self._kind),))

    def preflight(self, recipe: Mapping[str, Any], env: TrialEnv) -> Preflight:
        from tuner.train.isolation import put_back
        from tuner.train.trial import preflight

        if self.wish.devices > 1:
            text = f"train.devices_per_trial = {self.wish.devices}: a trial on several devices takes several processes"
            raise UsageError(text, "Leave --workers 0 (--engine serial) out.")
        with put_back():
            answer = preflight(recipe, env, self.on_progress)
        self._kind, self._room = answer.device, answer.room
        return answer

    def run(self, items: Sequence[WorkItem], env: TrialEnv) -> Iterator[TrialResult]:
        from tuner.train.isolation import put_back
        from tuner.train.trial import run_trial

        for item in items:
            with put_back():
                result = run_trial(item, replace(env, device=self.wish.device, room=self._room), self.on_progress)
            yield result

    def close(self) -> None:
        pass
