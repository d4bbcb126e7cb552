"""What the updates of one loop say to the rules of steps 2 and 3: do weights move, does the loss fall at this lr?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from tuner.checks.attempts.evidence import Attempts
from tuner.checks.earlier.evidence import Earlier
from tuner.checks.engine import apply_rules
from tuner.checks.evidence import Evidence, NotMeasured
from tuner.checks.lr_sweep.evidence import LrSweep
from tuner.checks.overfit.evidence import Overfit
from tuner.checks.trials.evidence import Trials
from tuner.core.formatting import rate as spelled
from tuner.core.metrics import LrSweepMetrics, OverfitMetrics, SweptLr
from tuner.core.result import Skipped, StageResult
from tuner.core.statistics import robust_sigma
from tuner.search.band import CLEAR, LAST

UPDATES = 100  # as in the sweep of step 3
FEWEST = 30  # updates that show whether a loss falls
AT_FULL = 0.5  # of the highest lr: what comes before is a warm-up

# of the rules of a step, those that one training on the whole of the data can answer
OF_STEP_2 = ("OV203",)
OF_STEP_3 = ("LR302", "LR309", "LR312")


@dataclass(frozen=True)
class Updates:
    """The updates of one loop: the loss and the lr of each, whether any weight moved, and the optimizer's settings."""

    losses: Sequence[float]
    lrs: Sequence[float]
    moved: bool
    optimizer: str = ""
    weight_decay: float | None = None
    momentum: float | None = None


def judged_updates(updates: Updates) -> tuple[StageResult[Any], StageResult[Any]]:
    """Return what steps 2 and 3 say of a loop, as far as one training can say it."""
    return _overfit(updates), _lr(updates)


def _overfit(updates: Updates) -> StageResult[Any]:
    losses, lr = updates.losses, max(updates.lrs, default=0.0)
    attempt = Overfit("steps", lr, steps=len(losses), moved=updates.moved, initial_loss=losses[0])
    seen: dict[str, Evidence | NotMeasured] = {
        "attempts": Attempts(attempt, [attempt]),
        "trials": Trials([]),
        "earlier": Earlier([]),
    }
    found, ran = _of(OF_STEP_2, "overfit", seen)
    skipped = [Skipped("fit of a tiny subset", "the loop trains on all of the data: tuner.check fits a few examples")]
    headline = "The weights move" if updates.moved else "No weight has moved"
    metrics = OverfitMetrics(final_loss=_finite(losses[-1]), steps=len(losses), lr=lr)
    return StageResult("overfit", f"{headline} in {len(losses):,} updates.", metrics, found, ran, skipped)


def _lr(updates: Updates) -> StageResult[Any]:
    highest = max(updates.lrs, default=0.0)
    start = next((i for i, lr in enumerate(updates.lrs) if lr >= AT_FULL * highest), 0)
    window = list(updates.losses[start : start + UPDATES])
    if len(window) < FEWEST or not all(map(math.isfinite, window)):
        why = f"fewer than {FEWEST} updates" if len(window) < FEWEST else "the loss is lost, which step 6 says"
        headline = f"Not judged: {why}."
        return StageResult("lr-sweep", headline, LrSweepMetrics(), skipped=[Skipped("whether the loss falls", why)])
    first, final = updates.losses[0], statistics.fmean(window[-LAST:])
    noise = robust_sigma(window) * math.sqrt(1 + 1 / LAST)
    drop = first - final
    falls = drop > CLEAR * noise
    late = statistics.fmean(updates.losses[-max(LAST, len(updates.losses) // 10) :])
    in_the_end = falls or first - late > CLEAR * noise  # a hundred updates are too few for some that learn
    sweep = LrSweep(
        rates=[SweptLr(highest, first, final, drop=drop, status="completed", verdict=_verdict(falls, in_the_end))],
        noise=noise,
        steps=len(window),
        recipe_lr=highest,
        best_lr=highest,
        lr=highest if in_the_end else None,
        optimizer=updates.optimizer,
        weight_decay=updates.weight_decay,
        momentum=updates.momentum,
    )
    found, ran = _of(OF_STEP_3, "lr-sweep", {"lr_sweep": sweep, "earlier": Earlier([])})
    skipped = [Skipped("other lrs", "a loop has one: tuner lr-sweep tries them side by side")]
    said = f"from {first:.4g} to {final:.4g} in {len(window)} updates (noise {noise:.2g})"
    headline = f"At lr {spelled(highest)} the loss {'falls' if falls else 'goes'} {said}."
    metrics = LrSweepMetrics(**{field.name: getattr(sweep, field.name) for field in fields(LrSweepMetrics)})
    return StageResult("lr-sweep", headline, metrics, found, ran, skipped)


def _verdict(falls: bool, in_the_end: bool) -> str:
    return "falls" if falls else "falls later" if in_the_end else "no change beyond noise"


def _of(codes: Sequence[str], stage: str, seen: dict[str, Evidence | NotMeasured]) -> tuple[list[Any], list[str]]:
    found, ran, _ = apply_rules(stage, seen)
    return [item for item in found if item.code in codes], [name for name in ran if name.startswith(tuple(codes))]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
