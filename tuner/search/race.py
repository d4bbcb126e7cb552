"""The race of learning rates: which are tried next, how long, and with how many seeds.

One seed over the decades first, for 30 iterations; who is hopeless by then ends there, the others run in full. Then
come decades beyond an end that is the best, and half-decades inside the band and next to it: by then it is known what a
rate must have after 30 iterations, so that one run does for both. Last come further seeds, for those rates alone whose
place decides the answer: on which side of a share of the best drop they lie. Everything is worked out from what was
measured, so the same measurements lead to the same questions.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tuner.core.result import Record
from tuner.core.statistics import robust_sigma
from tuner.search.band import (
    BAND,
    CLEAR,
    LAST,
    USE,
    Rate,
    best_of,
    decades,
    find_band,
    index_of,
    losses_of,
    measure,
    near,
    noise_of,
    on_grid,
    run_of,
)

SHORT = 30  # iterations after which a rate may be given up
HOPELESS = 0.3  # of the best drop by then: the best rate had more in all nine settings of benchmarks/sweep.py
SPREAD = 0.03  # of a rate's share of the best drop, from seed to seed (benchmarks/sweep.py)


@dataclass(frozen=True)
class Question:
    """One run of the race: a rate, which of the seeds (from 0), and how many iterations.

    `least`: the drop after `Race.short` iterations below which it ends there; None: it never does.
    """

    lr: float
    seed: int
    steps: int
    least: float | None = None


@dataclass(frozen=True)
class Race:
    """The decades at first, the bounds that are never passed, and the most seeds of a rate.

    `steps`: iterations, and `short`: those after which a rate may be given up.
    """

    low: float
    high: float
    floor: float
    ceiling: float
    steps: int
    short: int
    seeds: int

    def rounds(self, answer: Callable[[Question], Record | None]) -> Iterator[list[Question]]:
        """Yield the rounds of questions, up to the first that is not answered in full."""
        known: dict[Question, Record] = {}
        while questions := self._next(known):
            yield questions
            answers = {question: answer(question) for question in questions}
            if None in answers.values():
                return
            known |= {question: record for question, record in answers.items() if record is not None}

    def _next(self, known: Mapping[Question, Record]) -> list[Question]:
        if not known:
            return [Question(lr, 0, self.short) for lr in decades(self.low, self.high)]
        least = self._least(known.values())
        if all(question.steps < self.steps for question in known) and (promoted := _promoted(known, least)):
            return [Question(lr, 0, self.steps) for lr in promoted]
        rates = measure(list(known.values()))
        bounds = (self.low, self.floor, self.ceiling)
        decade = extension(rates, *bounds)
        if new := [decade] if decade is not None else refinement(rates, *bounds):
            return [Question(lr, 0, self.steps, least) for lr in new]
        return [Question(lr, seed, self.steps) for lr, seed in contested(rates, self.seeds)]

    def _least(self, known: Iterable[Record]) -> float | None:
        """Return the drop that a rate must have early on; None while nothing has clearly fallen by then."""
        fell = [(drop, record) for record in known if (drop := drop_at(record, self.short)) is not None]
        best = max((drop for drop, _ in fell), default=0.0)
        noise = max((scatter(record, self.short) for _, record in fell), default=0.0)
        return HOPELESS * best if self.short < self.steps and best > CLEAR * noise else None


def _promoted(known: Mapping[Question, Record], least: float | None) -> list[float]:
    """Return the rates that were tried shortly, and are not hopeless."""
    drops = {question.lr: drop_at(record, question.steps) for question, record in known.items()}
    return [lr for lr, drop in sorted(drops.items()) if drop is not None and (least is None or drop >= least)]


def drop_at(record: Record, steps: int) -> float | None:
    """Return by how much the loss had fallen after so many iterations; None where it did not come so far."""
    losses = losses_of(record)[:steps]
    if len(losses) < steps or not all(map(math.isfinite, losses)):
        return None
    return losses[0] - statistics.fmean(losses[-LAST:])


def scatter(record: Record, steps: int) -> float:
    """Return the standard error of a drop after so many iterations, from the scatter between batches."""
    return robust_sigma(losses_of(record)[:steps]) * math.sqrt(1 + 1 / LAST)


def contested(rates: Sequence[Rate], most: int) -> list[tuple[float, int]]:
    """Return (rate, seed) for what one more seed could change; nothing once all have `most` seeds, or none can.

    The best rate and the one nearest to `lr` have a second seed in any case: how far seeds differ is part of the
    answer. A rate is contested when its share of the best drop is, within its error, on the border of the rates that
    `lr` is the centre of. Whoever gets a seed is compared with the best on it.
    """
    noise = noise_of(rates)
    best = best_of(rates, noise)
    if best is None:
        top = max((rate for rate in rates if rate.drop is not None), key=lambda rate: rate.drop or 0.0, default=None)
        return [] if top is None or len(top.by_seed) >= most else [(top.lr, len(top.by_seed))]
    used = near(find_band(rates))
    counts = {rate.lr: len(rate.by_seed) for rate in rates}
    border = [rate.lr for rate in rates if rate is not best and _on_a_border(rate, best) and counts[rate.lr] < most]
    asked = {lr: counts[lr] for lr in border}
    asked |= {rate.lr: 1 for rate in (best, used) if rate is not None and counts[rate.lr] == 1 < most}
    if asked and counts[best.lr] <= max(asked.values()):
        asked[best.lr] = counts[best.lr]
    return sorted(asked.items())


def _on_a_border(rate: Rate, best: Rate) -> bool:
    if rate.level is None or rate.status != "completed" or not best.level:
        return False
    share = rate.level / best.level
    batches = max(rate.sigma, best.sigma) * math.sqrt(2 / LAST) / best.level
    error = math.hypot(SPREAD, batches) / math.sqrt(len(rate.by_seed))
    return abs(share - USE) < error


def extension(rates: Sequence[Rate], low: float, floor: float, ceiling: float) -> float | None:
    """Return the next decade to try beyond the rates tried, or None.

    Upwards while the largest rate is the best, downwards while the smallest is. Where nothing falls: upwards as long as
    the loss does not rise, then downwards, since a rate far too high can end at the loss of guessing. A rate that
    diverged is never passed upwards. `low`: the decade that the grid begins with.
    """
    if any(rate.status == "failed" for rate in rates) and not any(rate.drop is not None for rate in rates):
        return None
    noise = noise_of(rates)
    best = best_of(rates, noise)
    lowest, highest = rates[0], rates[-1]
    if best is None:
        rises = lowest.drop is None or lowest.drop < -CLEAR * noise
        up, down = not rises and highest.drop is not None and highest.drop >= -CLEAR * noise, True
    else:
        down, up = best is lowest, best is highest
    above = on_grid(low, 2 * (index_of(highest.lr, low) // 2 + 1))
    below = on_grid(low, 2 * ((index_of(lowest.lr, low) - 1) // 2))
    if up and above <= ceiling * (1 + 1e-9):
        return above
    if down and below >= floor * (1 - 1e-9):
        return below
    return None


def refinement(rates: Sequence[Rate], low: float, floor: float, ceiling: float) -> list[float]:
    """Return the half-decades inside the band and next to its ends that have not been tried; none when it is closed."""
    tried = {index_of(rate.lr, low) for rate in rates}
    wanted = {index_of(rate.lr, low) + side for rate in run_of(rates, BAND) for side in (-1, 1)} - tried
    new = [on_grid(low, index) for index in sorted(wanted)]
    return [lr for lr in new if floor * (1 - 1e-9) <= lr <= ceiling * (1 + 1e-9)]
