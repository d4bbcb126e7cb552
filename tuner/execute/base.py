"""The plug point between who decides (stages) and who runs trials (executors)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from tuner.core.result import TrialResult
from tuner.core.trial import Progress, TrialEnv, WorkItem

OnProgress = Callable[[Progress], None]


class Executor(Protocol):
    """Runs work items. Results come in any order; a failing trial is a result, never an exception."""

    def preflight(self, recipe: Mapping[str, Any], env: TrialEnv) -> dict[str, Any]:
        """Check what cannot be checked without torch: the problems of the recipe's tables, all at once."""

    def run(self, items: Sequence[WorkItem], env: TrialEnv) -> Iterator[TrialResult]: ...

    def close(self) -> None:
        """End the workers. Safe to call twice."""
