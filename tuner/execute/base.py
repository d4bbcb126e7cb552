"""The plug point between who decides (stages) and who runs trials (executors)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from tuner.core.preflight import Preflight
from tuner.core.result import TrialResult
from tuner.core.trial import Progress, TrialEnv, WorkItem
from tuner.execute.slots import Slots

OnProgress = Callable[[Progress], None]


class Executor(Protocol):
    """Runs work items. Results come in any order; a failing trial is a result, never an exception."""

    @property
    def slots(self) -> Slots:
        """Return what runs at once, and on which device each."""

    def preflight(self, recipe: Mapping[str, Any], env: TrialEnv) -> Preflight:
        """Check what cannot be checked without torch: the problems of the recipe's tables, all at once.

        Raises:
            TunerError: the user's code, the data or the machine is at fault.
        """

    def run(self, items: Sequence[WorkItem], env: TrialEnv) -> Iterator[TrialResult]:
        """Yield the results as they come.

        Raises:
            EnvironmentProblem: a trial met a full disk or the like, which the other trials would meet as well.
        """

    def close(self) -> None:
        """End what was started. Safe to call twice."""


@runtime_checkable
class TakesMore(Protocol):
    """An executor that takes items while it runs others, so that no slot waits for the last of them."""

    @property
    def wants_more(self) -> bool:
        """Whether fewer items wait than run at once."""

    def add(self, items: Sequence[WorkItem]) -> None:
        """Run these as well: `run`, which is going on, yields their results too."""
