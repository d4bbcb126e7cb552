"""Run trials one after the other in this process: for debugging (`--workers 0`), with breakpoints and no deadlines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tuner.core.result import TrialResult
from tuner.core.trial import TrialEnv, WorkItem
from tuner.execute.base import OnProgress


class SerialExecutor:
    """The simplest executor: a loop."""

    def __init__(self, on_progress: OnProgress) -> None:
        self.on_progress = on_progress

    def preflight(self, recipe: Mapping[str, Any], env: TrialEnv) -> dict[str, Any]:
        from tuner.train.trial import preflight

        return preflight(recipe, env, self.on_progress)

    def run(self, items: Sequence[WorkItem], env: TrialEnv) -> Iterator[TrialResult]:
        from tuner.train.trial import run_trial

        for item in items:
            yield run_trial(item, env, self.on_progress)

    def close(self) -> None:
        pass
