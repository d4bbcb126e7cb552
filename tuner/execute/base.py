"""The plug point between who decides (stages) and who runs trials (executors)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from tuner.core.result import TrialResult
from tuner.core.trial import Progress, WorkItem

OnProgress = Callable[[Progress], None]


class Executor(Protocol):
    """Runs work items. Results come in any order; a failing trial is a result, never an exception."""

    def run(self, items: Sequence[WorkItem]) -> Iterator[TrialResult]: ...

    def close(self) -> None:
        """Let the workers go. Safe to call twice."""
