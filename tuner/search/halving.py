"""Successive halving in deterministic generations: at each rung the best share goes on, the others stop there.

All trials of a generation train to the first rung; the best share of them trains on to the next one, and so on to the
horizon. A trial keeps its horizon, so at a rung all are at the same point of their schedules, and one that goes on
continues from its saved state. A rung's decision is taken among everything that has reached that rung, in this
generation and in those before it, whatever the order in which results arrive; a trial waits for no result that could
not change it, so that no worker waits for the last of a rung. The first trials (the recipe's own configuration in
coarse, coarse's best in fine) train to the horizon without a stop.

Source: Jamieson and Talwalkar 2016 (successive halving); Li et al. 2020 (ASHA) for rungs shared by all generations.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import BeforeValidator

from tuner.core.result import Record, last_of_each
from tuner.core.trial import WorkItem
from tuner.search import scores

KEEP = 0.5  # after a third of the epochs the order is a rough one: half is cut where other tools cut two thirds
LEAST_EPOCHS_COARSE = 3  # a shorter search has no room for rungs
LEAST_EPOCHS_FINE = 6

Params = dict[str, Any]
Configure = Callable[[int, range, Sequence[Record]], Sequence[Params]]
Key = tuple[float, float, int]


def read_rungs(value: Any) -> str:
    """Return the setting as text: `auto`, `none`, or epochs such as `1,2`; lists and numbers are taken too."""
    if isinstance(value, str) and value.strip() in ("auto", "none"):
        return value.strip()
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
    try:
        rungs = [int(str(part)) for part in parts]
    except ValueError:
        rungs = []
    if not rungs or rungs[0] < 1 or sorted(set(rungs)) != rungs:
        raise ValueError(f'expected auto, none, or rising epochs such as "1,2" (got {value!r})')
    return ",".join(map(str, rungs))


Rungs = Annotated[str, BeforeValidator(read_rungs)]


@dataclass(frozen=True)
class Ladder:
    """The rungs (epochs below the horizon), the share that goes on at each, and how many go on at least."""

    rungs: tuple[int, ...] = ()
    keep: float = KEEP
    least: int = 2

    def passing(self, reached: int) -> int:
        """Return how many of `reached` trials go on."""
        return max(self.least, math.ceil(round(self.keep * reached, 9)))


def ladder(setting: str, auto: Sequence[int], epochs: int, keep: float, least: int) -> Ladder:
    """Make the ladder of a `rungs` setting; rungs at the horizon or beyond it are none."""
    if setting == "none":
        return Ladder((), keep, least)
    rungs = auto if setting == "auto" else [int(part) for part in setting.split(",")]
    return Ladder(tuple(rung for rung in rungs if rung < epochs), keep, least)


def coarse_rungs(epochs: int) -> list[int]:
    """Return 1, 2, 4, ... up to about half of the epochs: 1, 2 of 3 to 6, and 1, 2, 4 of 7 to 14."""
    rungs = [1]
    while 4 * rungs[-1] <= epochs + 1:
        rungs.append(2 * rungs[-1])
    return rungs if epochs >= LEAST_EPOCHS_COARSE else []


def fine_rungs(epochs: int) -> list[int]:
    """Return half of the epochs: a winner is looked for, and a rate that anneals shows late what it is worth."""
    return [math.ceil(epochs / 2)] if epochs >= LEAST_EPOCHS_FINE else []


@dataclass(frozen=True)
class Climb:
    """How many configurations there are, how many at once, and the rungs.

    The first `exempt` are never stopped: they train to the horizon at once, beside the first rung of the others, so
    that results over all epochs are there early. At a rung they count with what they had there.
    """

    count: int
    generation: int
    ladder: Ladder
    exempt: int = 0

    @property
    def rungs(self) -> tuple[int, ...]:
        """The ladder's rungs; none where nothing could be stopped at one."""
        return self.ladder.rungs if self.count > max(self.ladder.least, self.exempt) else ()

    @property
    def stops(self) -> tuple[float, ...]:
        """The rungs, and the horizon."""
        return (*map(float, self.rungs), math.inf)

    def goal(self, number: int, stop: float) -> float:
        """Return up to where a trial trains that is to reach a rung."""
        return math.inf if number < self.exempt else stop


@dataclass
class Rung:
    """What the generations so far have brought to a rung: the keys there, and how many more may come."""

    keys: list[Key] = field(default_factory=list)
    unsure: int = 0


def next_items(
    climb: Climb, history: Iterable[Record], configure: Configure, make: Callable[[Params, int], WorkItem]
) -> list[WorkItem]:
    """Return what is certain to be run next, without what is done.

    `history` may lack trials that are running: their items are returned again, and a trial goes on from a rung as soon
    as nothing that these can show would stop it. So whatever the order in which results come, and whether they are
    waited for or not, the same items are run in the end.

    `configure(index, numbers, before)` gives the configurations of generation `index`, fewer where the space has no
    more. `before`, which alone it may learn from: one record per trial of the generations before it, of the last one of
    them what it had at its first rung. So a generation begins while the best of the one before it train on.
    """
    done: dict[int, dict[float, Record]] = {}
    for record in history:
        done.setdefault(record.number, {})[record.order[1]] = record
    rungs = {stop: Rung() for stop in climb.stops}
    items: list[WorkItem] = []
    latest: dict[int, float] = {}  # up to where the trials of the last generation trained at first
    for index, start in enumerate(range(0, climb.count, climb.generation)):
        numbers = range(start, min(start + climb.generation, climb.count))
        begun = {number: next(iter(done[number].values())).item for number in numbers if number in done}
        if len(begun) < len(numbers):
            older = (
                record for number in range(start) if number not in latest for record in done.get(number, {}).values()
            )
            before = [*last_of_each(older), *(done[number][goal] for number, goal in latest.items())]
            asked = zip(numbers, configure(index, numbers, before), strict=False)
            begun |= {number: make(params, number) for number, params in asked if number not in done}
        waits_for_older = bool(items)
        items += _certain(climb, done, begun, rungs)
        latest = {number: climb.goal(number, climb.stops[0]) for number in begun}
        if not begun or waits_for_older or any(goal not in done.get(number, {}) for number, goal in latest.items()):
            return items
    return items


def _certain(
    climb: Climb,
    done: Mapping[int, Mapping[float, Record]],
    begun: Mapping[int, WorkItem],
    rungs: Mapping[float, Rung],
) -> list[WorkItem]:
    """Return what a generation's trials are certain to run; none: it is complete. It is added to the rungs."""
    items: dict[tuple[int, float], WorkItem] = {}
    alive, unsure = sorted(begun), 0  # that come to this rung; how many more may
    for stop, rung in rungs.items():
        goals = {number: climb.goal(number, stop) for number in alive}
        waited = [number for number in alive if goals[number] not in done.get(number, {})]
        items |= {(n, goals[n]): replace(begun[n], until_epoch=_until(goals[n])) for n in waited}
        here = [done[number][goals[number]] for number in alive if number not in waited]
        unsure += len(waited)
        rung.unsure += unsure
        bar = climb.ladder.passing(len(rung.keys) + len(alive))
        for record in here:
            bisect.insort(rung.keys, rank(record, stop))
        usable = [record for record in here if is_usable(record)]
        alive = [
            record.number
            for record in usable
            if record.number < climb.exempt or bisect.bisect_left(rung.keys, rank(record, stop)) + rung.unsure < bar
        ]
        unsure += len(usable) - len(alive) if rung.unsure else 0
    return [items[key] for key in sorted(items)]


def _until(stop: float) -> int | None:
    return None if stop == math.inf else int(stop)


def is_usable(record: Record) -> bool:
    """Return whether a trial can go on: it neither diverged nor failed, and has a finite score."""
    score = record.result.score
    return record.result.status in ("completed", "stopped") and score is not None and math.isfinite(score)


def rank(record: Record, stop: float = math.inf) -> Key:
    """Return the key that trials are ordered by, best first: the best score of the epochs up to `stop`.

    Ties: the lower val loss, then the earlier trial.
    """
    worst = math.inf, math.inf, record.number
    if not is_usable(record):
        return worst
    by_epoch = record.scores()
    rows = [row for row in record.rows("val") if row["epoch"] in by_epoch and row["epoch"] <= stop]
    keys = [(-by_epoch[row["epoch"]], scores.loss_of(row)) for row in rows]
    return (*min(keys, default=worst[:2]), record.number)


def saved(records: Sequence[Record], epochs: int) -> dict[str, int]:
    """Return `epochs_run`, and `epochs_full`: what it would have been had every stopped trial gone to the horizon."""
    run: dict[str, int] = {}
    for record in records:
        reached = max((int(row["epoch"]) for row in record.result.curve), default=0)
        run[record.result.id] = max(reached, run.get(record.result.id, 0))
    stopped = [record.result.id for record in last_of_each(records) if record.result.status == "stopped"]
    total = sum(run.values())
    return {"epochs_run": total, "epochs_full": total + sum(epochs - run[trial] for trial in stopped)}
