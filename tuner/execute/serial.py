"""Run trials one after the other in this process: for debugging (`--workers 0`), with breakpoints and no deadlines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tuner.core.result import TrialResult
from tuner.core.trial import TrialEnv, WorkItem
from tuner.execute.base import OnProgress


class SerialExecutor:
    """The simplest executor: a loop."""

    def __init__(self, env: TrialEnv, on_progress: OnProgress) -> None:
        self.env = env
        self.on_progress = on_progress

    def preflight(self, tables: Mapping[str, Any]) -> dict[str, Any]:
        from tuner.train.trial import preflight

        return preflight(tables, self.env, self.on_progress)

    def run(self, items: Sequence[WorkItem]) -> Iterator[TrialResult]:
        from tuner.train.trial import run_trial

        for item in items:
            yield run_trial(item, self.env, self.on_progress)

    def close(self) -> None:
        pass
