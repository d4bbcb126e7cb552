"""Which precision coarse and fine train in, where the recipe says `auto`: first the hardware, then one parity check.

Nothing here rests on a measured time: two runs of the same recipe, one on a busy machine, must train the same trials.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.core.result import Record
from tuner.core.statistics import robust_sigma
from tuner.search.band import LAST, Rate

# Multiply-adds of one forward of a batch above which the short format pays. CPU: over 21 nets on a core with AVX-512
# BF16 a step in it ran at 0.74-1.02 of the speed of fp32 below 52 million, but for wide linear layers, and at 1.2-3.4
# above 170 million, but for depthwise convolutions, 0.4 (benchmarks/precision.py). GPU: not measured; below it a step's
# time is taken to be that of launching kernels.
LEAST_WORK = {"cpu": 1e8, "cuda": 1e9}
AGREE = 3.0  # standard errors that the two precisions may differ by
SHARE = 0.02  # of the drop of the loss, that they may always differ by


@dataclass(frozen=True)
class Settled:
    """The precision to use, why, and the numbers that it rests on."""

    precision: str
    reason: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


def candidate(facts: Mapping[str, Any], device: str) -> tuple[str | None, str]:
    """Return the short format to try, or None with the reason. `facts`: the evidence of the probe `hardware`."""
    if "multiply_adds" not in facts:
        return None, "what the hardware can do was not found out"
    short, work = facts.get("short"), facts["multiply_adds"]
    if short is None:
        return None, f"this {device} has no fast 16-bit arithmetic"
    if device == "cpu" and facts.get("grouped"):
        return None, "grouped convolutions are slower in 16 bits on a CPU"
    least = LEAST_WORK.get(device, math.inf)
    if work < least:
        millions = f"{work / 1e6:.3g} million multiply-adds"
        return None, f"a batch takes {millions}, too few for {short} to pay (from {least / 1e6:g} million on)"
    return short, f"{short} on this {device}"


def parity(full: Sequence[Sequence[float]], short: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Compare loss curves of the same seeds and batches in two precisions; `agree` says whether noise explains both.

    Compared are the mean of the whole curve and of its last ten iterations. The standard error is that between seeds,
    of both precisions together, and at least that between batches.
    """
    if not short or any(len(curve) < 2 or not all(map(math.isfinite, curve)) for curve in short):
        return {"agree": False, "why": "the loss does not stay finite"}
    drop = abs(statistics.fmean(curve[0] - statistics.fmean(curve[-LAST:]) for curve in full))
    numbers: dict[str, Any] = {"drop": drop, "agree": True}
    sigma = statistics.median(robust_sigma(curve) for curve in full)
    for name, start in (("mean", 0), ("final", -LAST)):
        means = [[statistics.fmean(curve[start:]) for curve in curves] for curves in (full, short)]
        seeds = [statistics.variance(values) / len(values) for values in means if len(values) > 1]
        noise = math.sqrt(max(sum(seeds), 2 * sigma**2 / (len(full) * len(full[0][start:]))))
        difference = statistics.fmean(means[1]) - statistics.fmean(means[0])
        numbers |= {f"{name}_difference": difference, f"{name}_noise": noise}
        numbers["agree"] = numbers["agree"] and abs(difference) <= max(AGREE * noise, SHARE * drop)
    if not numbers["agree"]:
        numbers["why"] = "the loss curves differ by more than the noise between seeds"
    return numbers


def settle(facts: Mapping[str, Any], device: str, rate: Rate | None, records: Sequence[Record]) -> Settled:
    """Settle the precision on the facts and on the records of the parity check, of both precisions at one rate."""
    name, why = candidate(facts, device)
    numbers: dict[str, Any] = {"candidate": name, "multiply_adds": facts.get("multiply_adds")}
    if name is None or rate is None:
        return Settled("fp32", why if name is None else "no rate makes the loss fall", numbers)
    groups = {
        precision: sorted(
            (record for record in records if record.item.spec.precision == precision),
            key=lambda record: record.item.spec.seed,
        )
        for precision in ("fp32", name)
    }
    seconds = {
        precision: _median([record.result.wall_seconds for record in group]) for precision, group in groups.items()
    }
    numbers |= {"lr": rate.lr, "seeds": len(groups["fp32"]), "wall_seconds": seconds}
    broken = [record.result.status for record in groups[name] if record.result.status != "completed"]
    if broken or len(groups[name]) != len(groups["fp32"]):
        ended = broken[0] if broken else "missing"
        return Settled("fp32", f"a trial in {name} at a rate of {rate.lr:g} is {ended}, in fp32 none", numbers)
    curves = [[[row["loss"] for row in record.rows("train")] for record in groups[key]] for key in ("fp32", name)]
    numbers["parity"] = found = parity(*curves)
    if not found["agree"]:
        return Settled("fp32", f"{name} was tried: {found['why']}", numbers)
    return Settled(name, f"{why}; its loss curves are those of fp32 within noise", numbers)


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
