"""Evidence of the measurement planned_rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class PlannedRun:
    """One run of `epochs` and `steps` (updates). `*_until`, `*_from`, `places`: shares of the run.

    `raised`: what the schedule raised, and when. `dead_from`: from where on the rate is below 1 % of its highest;
    `rises`: how often it comes back up by half of that. None where no rate is finite and above 0.
    """

    epochs: int
    steps: int
    follows_recipe: bool = True
    raised: str | None = None
    finite: bool = True
    rates: Sequence[float | None] = ()
    places: Sequence[float] = ()
    first: float | None = None
    peak: float | None = None
    lowest: float | None = None
    final: float | None = None
    peak_until: float | None = None
    zero_until: float | None = None
    dead_from: float | None = None
    range: float | None = None
    rises: int = 0
    rises_per_epoch: float = 0.0


@dataclass(frozen=True)
class ParameterGroup:
    """One of the optimizer's groups: the names of its parameters, its rate and its weight decay before any step."""

    parameters: Sequence[str]
    lr: float | None = None
    weight_decay: float | None = None


@dataclass(frozen=True)
class PlannedRates(Evidence):
    """The schedule, stepped through each planned run. Rates are over the recipe's own.

    `runs`: by stage; `base`: the recipe's rate; `kind`: the scheduler's class; `every`: what it is stepped by;
    `optimizer_follows`: twice the recipe's rate gives the optimizer twice the rate. `groups`: the optimizer's.
    """

    name: str
    kind: str
    runs: Mapping[str, PlannedRun]
    every: str = "step"
    base: float = 0.0
    optimizer_follows: bool = True
    groups: Sequence[ParameterGroup] = ()
