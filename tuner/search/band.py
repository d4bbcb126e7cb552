"""The band of learning rates in which the loss falls: what was measured per rate, and which to use.

The measure is the drop: the first objective minus the mean of the last ten, on the same weights and batches for
every rate. Which rates are tried, how long and with how many seeds, is in `tuner.search.race`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tuner.core.result import Record
from tuner.core.statistics import robust_sigma
from tuner.core.trial import WorkItem

CONSTANT = {"name": "constant", "every": "step", "args": {}}  # the schedule of a run whose rate is the question
LAST = 10  # iterations that the final loss is averaged over
USE = 0.8  # share of the best drop that the rate to use is the centre of
BAND = 0.5  # share of the best drop that bounds the band
CLEAR = 2.0  # standard errors that a drop must exceed to count as falling
EASY = 1.5  # standard errors by which the loss rises where nothing moves: the first batch was an easy one


@dataclass(frozen=True)
class Rate:
    """What one rate gave, over all its seeds. `drop` is None where a seed diverged or failed.

    `status`: as of trials; "stopped": it was hopeless, and ended early. `steps`: iterations that were made. `level`:
    the drop that it would have over the seeds of the rate that has most of them: rates are compared by this.
    """

    lr: float
    status: str
    trials: tuple[str, ...] = ()
    first_loss: float | None = None
    final_loss: float | None = None
    final_loss_std: float | None = None
    drop: float | None = None
    drop_std: float | None = None
    diverged_at: int | None = None
    sigma: float = 0.0
    steps: int | None = None
    by_seed: Mapping[int, float] = field(default_factory=dict)
    level: float | None = None


@dataclass(frozen=True)
class Band:
    """The rate to use and the ends of the band, with the rates that were measured, sorted."""

    rates: tuple[Rate, ...]
    noise: float
    best: Rate | None = None
    lr: float | None = None
    lr_low: float | None = None
    lr_high: float | None = None
    edge: str | None = None
    verdicts: Mapping[float, str] = field(default_factory=dict)


def on_grid(low: float, index: int) -> float:
    """Return a rate of the grid of half-decades as people write it: low, 3 low, 10 low, 30 low, ..."""
    return float(f"{low * 10.0 ** (index // 2) * (3 if index % 2 else 1):.3g}")


def index_of(lr: float, low: float) -> int:
    """Return the place of a rate on the grid; even places are decades."""
    return round(2 * math.log10(lr / low))


def decades(low: float, high: float) -> list[float]:
    """Return low, 10 low, ... up to high."""
    count = math.floor(math.log10(high / low) + 1e-9) + 1
    return [on_grid(low, 2 * index) for index in range(count)]


def rate_of(item: WorkItem) -> float:
    return float(item.spec.tables["optimizer"]["lr"])


def measure(records: Sequence[Record]) -> list[Rate]:
    """Summarise the records per rate, sorted by rate; of a rate's trials the longest count."""
    by_rate: dict[float, list[Record]] = {}
    for record in records:
        by_rate.setdefault(rate_of(record.item), []).append(record)
    full = max((_steps(record) for record in records), default=0)
    return comparable([_measured(lr, group, full) for lr, group in sorted(by_rate.items())])


def _steps(record: Record) -> int:
    """Return how many iterations a trial was to make, or made before it was given up."""
    given_up = record.result.status == "stopped"
    return len(losses_of(record)) if given_up else record.item.spec.horizon_steps or 0


def _measured(lr: float, group: Sequence[Record], full: int) -> Rate:
    longest = max(map(_steps, group))
    group = [record for record in group if _steps(record) == longest]
    trials = tuple(record.result.id for record in group)
    for status in ("failed", "diverged"):
        broken = [record for record in group if record.result.status == status]
        if broken:
            steps = [record.result.curve[-1]["step"] for record in broken if record.result.curve]
            return Rate(lr, status, trials, diverged_at=min(steps) if status == "diverged" and steps else None)
    losses = {record.item.spec.seed: losses_of(record) for record in group}
    if any(len(curve) < 2 or not all(map(_finite, curve)) for curve in losses.values()):
        return Rate(lr, "diverged", trials)
    finals = [statistics.fmean(curve[-min(LAST, len(curve) // 2) :]) for curve in losses.values()]
    drops = {seed: curve[0] - final for (seed, curve), final in zip(losses.items(), finals, strict=True)}
    several = len(group) > 1
    return Rate(
        lr,
        "stopped" if longest < full else "completed",
        trials,
        statistics.fmean(curve[0] for curve in losses.values()),
        statistics.fmean(finals),
        statistics.stdev(finals) if several else None,
        statistics.fmean(drops.values()),
        statistics.stdev(drops.values()) if several else None,
        sigma=statistics.median(robust_sigma(curve) for curve in losses.values()),
        steps=longest,
        by_seed=drops,
    )


def losses_of(record: Record) -> list[float]:
    """Return the objective of each iteration of a trial."""
    return [row["loss"] for row in record.rows("train")]


def comparable(rates: Sequence[Rate]) -> list[Rate]:
    """Give each rate its level: its drop, less what the seeds that it lacks make of it.

    A seed is other weights and other batches, for all rates alike: what it does to the drop of one rate is read off the
    rate with most seeds. Without this, a rate would win by having been spared a bad seed.
    """
    measured = [rate for rate in rates if rate.drop is not None]
    if not measured:
        return list(rates)
    known = max(measured, key=lambda rate: (rate.status == "completed", len(rate.by_seed), rate.drop or 0.0))
    return [replace(rate, level=_level(rate, known)) if rate.drop is not None else rate for rate in rates]


def _level(rate: Rate, known: Rate) -> float | None:
    shared = [known.by_seed[seed] for seed in rate.by_seed if seed in known.by_seed]
    if rate.drop is None or known.drop is None or len(shared) < len(rate.by_seed) or not statistics.fmean(shared) > 0:
        return rate.drop
    return rate.drop * known.drop / statistics.fmean(shared) if rate.drop > 0 else rate.drop


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def noise_of(rates: Sequence[Rate]) -> float:
    """Return the standard error that a drop would have if nothing fell: batches differ, whatever the rate.

    Taken from the lowest rate that was measured, whose loss moves least by itself: the scatter from batch to batch, for
    the mean of ten minus the first, over the seeds.
    """
    calm = next((rate for rate in rates if rate.drop is not None), None)
    return 0.0 if calm is None else calm.sigma * math.sqrt((1 + 1 / LAST) / len(calm.trials))


def best_of(rates: Sequence[Rate], noise: float) -> Rate | None:
    """Return the rate with the largest drop, if that is clearly more than noise."""
    measured = [rate for rate in rates if rate.drop is not None]
    best = max(measured, key=lambda rate: rate.level or 0.0, default=None)
    return best if best is not None and (best.drop or 0.0) > CLEAR * noise else None


def run_of(rates: Sequence[Rate], share: float) -> list[Rate]:
    """Return the rates with at least `share` of the best drop, on the best's side of any rate that diverged."""
    best = best_of(rates, noise_of(rates))
    if best is None or best.level is None:
        return []
    least = share * best.level * (1 - 1e-9)
    at = rates.index(best)
    start = next((i + 1 for i in range(at, -1, -1) if rates[i].drop is None), 0)
    stop = next((i for i in range(at, len(rates)) if rates[i].drop is None), len(rates))
    return [rate for rate in rates[start:stop] if rate.level is not None and rate.level >= least]


def from_a_fair_start(rates: Sequence[Rate]) -> list[Rate]:
    """Return the rates with their drops from where the loss stands untrained, if the first batch was too easy a one.

    At the lowest rate nothing moves, so a loss that rises there clearly is other batches' doing: it rises by as much at
    every rate, which has the same batches.
    """
    calm = next((rate for rate in rates if rate.drop is not None), None)
    if calm is None or calm.drop is None or calm.drop >= -EASY * noise_of(rates):
        return list(rates)
    rise = -calm.drop
    return [
        replace(rate, drop=rate.drop + rise, level=None if rate.level is None else rate.level + rise)
        if rate.drop is not None
        else rate
        for rate in rates
    ]


def find_band(rates: Sequence[Rate]) -> Band:
    """Return the band: its ends have half of the best drop; `lr` is the geometric centre of those with 80 %."""
    rates = from_a_fair_start(rates)
    noise = noise_of(rates)
    best = best_of(rates, noise)
    verdicts = {rate.lr: _verdict(rate, best, noise) for rate in rates}
    if best is None:
        return Band(tuple(rates), noise, verdicts=verdicts)
    use, half = run_of(rates, USE), run_of(rates, BAND)
    edge = "high" if best is rates[-1] else "low" if best is rates[0] else None
    lr = float(f"{math.sqrt(use[0].lr * use[-1].lr):.2g}")
    return Band(tuple(rates), noise, best, lr, half[0].lr, half[-1].lr, edge, verdicts)


def _verdict(rate: Rate, best: Rate | None, noise: float) -> str:
    if rate.drop is None:
        return "diverges" if rate.status == "diverged" else "failed"
    if rate.status == "stopped" and best is not None:
        return f"too {'low' if rate.lr < best.lr else 'high'}: ended after {rate.steps} iterations"
    if rate.drop < -CLEAR * noise:
        return "too high: the loss rises" if best is not None and rate.lr > best.lr else "the loss rises"
    if rate.drop <= CLEAR * noise:
        return "no change beyond noise" if best is None or rate.lr > best.lr else "too low: no change beyond noise"
    if rate is best:
        return "falls, steepest"
    if best is not None and best.drop is not None and rate.drop < BAND * best.drop:
        return "too low: falls slowly" if rate.lr < best.lr else "too high: falls little"
    return "falls, noisy" if rate.drop_std is not None and rate.drop_std > 0.25 * rate.drop else "falls"


def near(band: Band) -> Rate | None:
    """Return the measured rate that is nearest to the chosen one: what is told of that one was measured here."""
    measured = [rate for rate in band.rates if rate.status == "completed"]
    if band.lr is None or not measured:
        return None
    chosen = band.lr
    return min(measured, key=lambda rate: (abs(math.log(rate.lr / chosen)), rate.lr))
