"""A budget of time, trials or epochs: which search fits into it, what it takes, and what a larger one would buy.

A search is outlined before it is run: how many trials reach each rung, in waves that the workers share. All of it is
arithmetic on the settings and on measured costs, so the same numbers give the same plan.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from tuner.search.costs import Costs
from tuner.search.halving import Climb

EXAMPLES = "20m, 90s, 1h30m, 40trials or 120epochs"
AIM = 0.95  # of a time budget is planned for: a search that ends a little early is better than one that is late
WAIT = 1 / math.sqrt(math.pi)  # of a standard deviation: how far the later of two ends behind their mean
LEARNT = 1.25  # more of a later generation pass a rung: they come from a sampler that has learnt (searches by replay)
PLANNED_SECONDS = 0.01  # of a configuration that a sampler learns to ask for, while the workers wait
MOST_TRIALS = 10_000
UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}

Unit = Literal["seconds", "trials", "epochs"]


@dataclass(frozen=True)
class Budget:
    """How much of what may be spent."""

    amount: float
    unit: Unit

    def times(self, factor: float) -> Budget:
        return replace(self, amount=self.amount * factor)

    def __str__(self) -> str:
        return clock(self.amount) if self.unit == "seconds" else f"{self.amount:.0f}{self.unit}"


def clock(seconds: float) -> str:
    """Return a time as a budget is written, rounded up to whole seconds: `1h30m`, `20m`, `90s`."""
    whole = math.ceil(seconds - 1e-9)
    if whole < 120 and whole % 60:
        return f"{whole}s"
    parts = [(whole // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s")]
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"


def parse(text: str) -> Budget:
    """Read a budget such as `20m`, `1h30m`, `40trials` or `120epochs`.

    Raises:
        ValueError: it is none of these, or nothing.
    """
    plain = re.sub(r"\s+", "", text.lower())
    if counted := re.fullmatch(r"(\d+)(trial|epoch)s?", plain):
        unit: Unit = "trials" if counted[2] == "trial" else "epochs"
        budget = Budget(float(counted[1]), unit)
    elif re.fullmatch(r"(\d+(\.\d+)?h)?(\d+(\.\d+)?m)?(\d+(\.\d+)?s)?", plain) and plain:
        parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", plain)
        budget = Budget(sum(float(count) * UNITS[unit] for count, unit in parts), "seconds")
    else:
        raise ValueError(f"expected a time, or a number of trials or epochs: {EXAMPLES}")
    if not budget.amount > 0:
        raise ValueError(f"expected more than nothing: {EXAMPLES}")
    return budget


def read_budget(value: Any) -> str | None:
    """Return the setting as text in one spelling: `90 S` is `90s`."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"expected text such as {EXAMPLES}")
    parse(value)
    return re.sub(r"\s+", "", value.lower())


BudgetText = Annotated[str | None, BeforeValidator(read_budget)]


@dataclass(frozen=True)
class Wave:
    """Trials that train side by side from one epoch to another.

    `opens`: they are the first of a generation. `repeats`: of finalists, when all others have ended. `number`: of the
    first of them, among the trials that the search begins with; None: they come later, or have been chosen by then.
    """

    begun: int
    until: int
    trials: int
    number: int | None = None
    opens: bool = False
    repeats: bool = False


@dataclass(frozen=True)
class Outline:
    """The shape of a search: the climb over `epochs`, and `repeats` trials from scratch when it has ended.

    `evaluated`: splits that are evaluated after each epoch (val; fine's train subset as well).
    """

    climb: Climb
    epochs: int
    repeats: int = 0
    evaluated: int = 1

    def waves(self) -> list[Wave]:
        """Return the waves of the search, as they come where no trial diverges or fails."""
        found: list[Wave] = []
        stops = [*self.climb.rungs, self.epochs]
        reached = dict.fromkeys(stops, 0)
        for start in range(0, self.climb.count, self.climb.generation):
            alive, begun = min(self.climb.generation, self.climb.count - start), 0
            if exempt := min(self.climb.exempt, alive) if start == 0 and self.climb.rungs else 0:
                found.append(Wave(0, self.epochs, exempt, 0, opens=True))
            for stop in stops:
                if alive > exempt:
                    number = None if start or begun else exempt
                    found.append(Wave(begun, stop, alive - exempt, number, opens=not begun and not exempt))
                if alive:
                    reached[stop] += alive
                    passing = min(self.climb.ladder.passing(reached[stop]), reached[stop])
                    share = passing / reached[stop] * (LEARNT if start else 1.0)
                    alive = max(exempt, round(alive * min(1.0, share)))
                begun = stop
        return [*found, *([Wave(0, self.epochs, self.repeats, repeats=True)] if self.repeats else [])]

    @property
    def trials(self) -> int:
        return self.climb.count + self.repeats

    @property
    def total_epochs(self) -> int:
        return sum((wave.until - wave.begun) * wave.trials for wave in self.waves())

    def rungs(self) -> list[dict[str, int]]:
        """Return how many configurations are expected to train up to each rung, repeats left out."""
        counts = dict.fromkeys([*self.climb.rungs, self.epochs], 0)
        for wave in self.waves()[: -1 if self.repeats else None]:
            for stop in counts:
                counts[stop] += wave.trials if wave.begun < stop <= wave.until else 0
        return [{"until": until, "trials": counts[until]} for until in sorted(counts)]

    def seconds(self, costs: Costs) -> float:
        """Return the wall time to expect.

        A generation waits for the first rung of the one before it, repeats for everything; at the other rungs there is
        something else that is certain to be run.
        """
        free, ready = [0.0] * costs.workers, 0.0
        ends: list[float] = []  # of the first rung of the latest generation
        waves = self.waves()
        for index, wave in enumerate(waves):
            if wave.repeats:
                free = [max(free)] * costs.workers
            elif wave.opens:
                ready, ends = max(ends, default=0.0), []
            elif wave.begun:
                ready = min(ends, default=0.0)
            jobs = self._jobs(wave, costs)
            ended = [_scheduled(free, seconds, ready) for seconds in jobs]
            ends += ended if not wave.begun else []
            is_last = index + 1 == len(waves) or waves[index + 1].repeats
            if is_last and costs.workers > 1 and not _is_measured(wave, costs):
                free = [time + WAIT * min(costs.spread, 1.0) * max(jobs) for time in free]
        planning = PLANNED_SECONDS * max(0, self.climb.count - self.climb.generation)
        return costs.fixed_seconds + max(free) + planning

    def _jobs(self, wave: Wave, costs: Costs) -> list[float]:
        """Return the seconds of each trial of a wave, by what was measured of it, or else of the trials' mean."""
        epoch = costs.epoch_seconds + self.evaluated * costs.evaluation_seconds
        known = () if wave.number is None else costs.relative[wave.number : wave.number + wave.trials]
        relative = [*known, *[1.0] * (wave.trials - len(known))]
        return [costs.item_seconds + share * epoch * (wave.until - wave.begun) for share in relative]

    def spent(self, unit: Unit, costs: Costs | None) -> float:
        """Return how much of a budget in `unit` the search takes."""
        if unit == "seconds":
            if costs is None:
                raise ValueError("a time cannot be planned without measured costs")
            return self.seconds(costs)
        return self.trials if unit == "trials" else self.total_epochs


def _scheduled(free: list[float], seconds: float, ready: float) -> float:
    """Give a trial to the worker that is free first, not before it is ready; return when it ends."""
    end = max(free[0], ready) + seconds
    heapq.heapreplace(free, end)
    return end


def _is_measured(wave: Wave, costs: Costs) -> bool:
    return wave.number is not None and len(costs.relative) >= wave.number + wave.trials


@dataclass(frozen=True)
class Bounds:
    """What a stage takes for a sensible search: trials that are the least, enough, and plenty; the epochs' ends.

    `whole_length`: fewer configurations before shorter ones, where it is what the winner is trained for that counts.
    """

    least: int
    enough: int
    plenty: int
    shortest: int
    longest: int
    whole_length: bool = False


@dataclass(frozen=True)
class Fit:
    """The search that was chosen, or (`fits` false) the least there is."""

    trials: int
    epochs: int
    fits: bool = True


def fit(
    budget: Budget, bounds: Bounds, epochs: int, most: int, outline: Callable[[int, int], Outline], costs: Costs | None
) -> Fit:
    """Choose trials and epochs: as many configurations as fit at the epochs that were set.

    Fewer epochs where that would leave too few configurations; more where there would be plenty of them, or where the
    space has no more. `most`: configurations that the space has.
    """
    limit = budget.amount * (AIM if budget.unit == "seconds" else 1.0)
    most = max(1, min(most, MOST_TRIALS))
    least, enough, plenty = (min(number, most) for number in (bounds.least, bounds.enough, bounds.plenty))
    shortest, longest = min(bounds.shortest, epochs), max(bounds.longest, epochs)

    def has_room(trials: int, length: int) -> bool:
        return outline(trials, length).spent(budget.unit, costs) <= limit

    def room(length: int) -> int:
        return _most_that_fit(most, lambda trials: has_room(trials, length))

    if budget.unit == "trials":  # what a trial costs is not counted, so nothing says to change its length
        return Fit(room(epochs), epochs) if room(epochs) >= least else Fit(least, epochs, fits=False)
    if has_room(plenty, epochs):
        length = max(length for length in range(epochs, longest + 1) if has_room(plenty, length))
        return Fit(room(length), length)
    if bounds.whole_length and (count := room(epochs)) >= least:  # more of them, or what is left over in longer ones
        return Fit(count, max(length for length in range(epochs, longest + 1) if has_room(count, length)))
    shorter = range(epochs, shortest - 1, -1)
    for wanted in (least,) if bounds.whole_length else (enough, least):
        for length in shorter:
            if (count := room(length)) >= wanted:
                return Fit(count, length)
    return Fit(least, shortest, fits=False)


def _most_that_fit(most: int, fits: Callable[[int], bool]) -> int:
    """Return the largest count up to `most` that fits, by doubling and halving; 0 where one does not fit."""
    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, high * 2
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
