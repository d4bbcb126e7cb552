"""The band of learning rates in which the loss falls: what was measured per rate, what to try next, what to use.

The measure is the drop: the first objective minus the mean of the last ten, on the same weights and batches for
every rate.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.core.result import Record
from tuner.core.statistics import robust_sigma
from tuner.core.trial import WorkItem

CONSTANT = {"name": "constant", "every": "step", "args": {}}  # the schedule of a run whose rate is the question
LAST = 10  # iterations that the final loss is averaged over
USE = 0.8  # share of the best drop that the rate to use is the centre of
BAND = 0.5  # share of the best drop that bounds the band
CLEAR = 2.0  # standard errors that a drop must exceed to count as falling


@dataclass(frozen=True)
class Rate:
    """What one rate gave, over all its seeds. `drop` is None where a seed diverged or failed."""

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
    """Summarise the records per rate, sorted by rate."""
    by_rate: dict[float, list[Record]] = {}
    for record in records:
        by_rate.setdefault(rate_of(record.item), []).append(record)
    return [_measured(lr, group) for lr, group in sorted(by_rate.items())]


def _measured(lr: float, group: Sequence[Record]) -> Rate:
    trials = tuple(record.result.id for record in group)
    for status in ("failed", "diverged"):
        broken = [record for record in group if record.result.status == status]
        if broken:
            steps = [record.result.curve[-1]["step"] for record in broken if record.result.curve]
            return Rate(lr, status, trials, diverged_at=min(steps) if status == "diverged" and steps else None)
    losses = [[row["loss"] for row in record.rows("train")] for record in group]
    if any(len(curve) < 2 or not all(map(_finite, curve)) for curve in losses):
        return Rate(lr, "diverged", trials)
    finals = [statistics.fmean(curve[-min(LAST, len(curve) // 2) :]) for curve in losses]
    drops = [curve[0] - final for curve, final in zip(losses, finals, strict=True)]
    several = len(group) > 1
    return Rate(
        lr,
        "completed",
        trials,
        statistics.fmean(curve[0] for curve in losses),
        statistics.fmean(finals),
        statistics.stdev(finals) if several else None,
        statistics.fmean(drops),
        statistics.stdev(drops) if several else None,
        sigma=statistics.median(robust_sigma(curve) for curve in losses),
    )


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
    best = max(measured, key=lambda rate: rate.drop or 0.0, default=None)
    return best if best is not None and (best.drop or 0.0) > CLEAR * noise else None


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
    wanted = {index_of(rate.lr, low) + side for rate in _run(rates, BAND) for side in (-1, 1)} - tried
    new = [on_grid(low, index) for index in sorted(wanted)]
    return [lr for lr in new if floor * (1 - 1e-9) <= lr <= ceiling * (1 + 1e-9)]


def _run(rates: Sequence[Rate], share: float) -> list[Rate]:
    """Return the rates with at least `share` of the best drop, on the best's side of any rate that diverged."""
    best = best_of(rates, noise_of(rates))
    if best is None or best.drop is None:
        return []
    at = rates.index(best)
    start = next((i + 1 for i in range(at, -1, -1) if rates[i].drop is None), 0)
    stop = next((i for i in range(at, len(rates)) if rates[i].drop is None), len(rates))
    return [rate for rate in rates[start:stop] if rate.drop is not None and rate.drop >= share * best.drop * (1 - 1e-9)]


def find_band(rates: Sequence[Rate]) -> Band:
    """Return the band: its ends have half of the best drop; `lr` is the geometric centre of those with 80 %."""
    noise = noise_of(rates)
    best = best_of(rates, noise)
    verdicts = {rate.lr: _verdict(rate, best, noise) for rate in rates}
    if best is None:
        return Band(tuple(rates), noise, verdicts=verdicts)
    use, half = _run(rates, USE), _run(rates, BAND)
    edge = "high" if best is rates[-1] else "low" if best is rates[0] else None
    lr = float(f"{math.sqrt(use[0].lr * use[-1].lr):.2g}")
    return Band(tuple(rates), noise, best, lr, half[0].lr, half[-1].lr, edge, verdicts)


def _verdict(rate: Rate, best: Rate | None, noise: float) -> str:
    if rate.drop is None:
        return "diverges" if rate.status == "diverged" else "failed"
    if rate.drop < -CLEAR * noise:
        return "too high: the loss rises" if best is not None and rate.lr > best.lr else "the loss rises"
    if rate.drop <= CLEAR * noise:
        return (
            "within noise of no change" if best is None or rate.lr > best.lr else "too low: within noise of no change"
        )
    if rate is best:
        return "falls, steepest"
    if best is not None and best.drop is not None and rate.drop < BAND * best.drop:
        return "too low: falls slowly" if rate.lr < best.lr else "too high: falls little"
    return "falls, noisy" if rate.drop_std is not None and rate.drop_std > 0.25 * rate.drop else "falls"
