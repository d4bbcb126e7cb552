"""Evidence of the measurement lr_sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class LrRate:
    """One rate, over its seeds: mean loss at first and at the end, the drop, their standard deviations.

    `status`: completed, diverged (at step `diverged_at`) or failed; `verdict`: of the sweep, in words.
    """

    lr: float
    status: str
    drop: float | None = None
    drop_std: float | None = None
    first_loss: float | None = None
    final_loss: float | None = None
    final_loss_std: float | None = None
    diverged_at: int | None = None
    verdict: str = ""


@dataclass(frozen=True)
class LrSweep(Evidence):
    """The sweep: what 100 iterations do to the loss at every rate, and the band where it falls.

    `best_lr`: the rate with the largest drop; `lr`: the one to use, in the band `lr_low`..`lr_high`; `edge`: the
    end (low, high) at which the best lies, if it does. `noise`: of a drop. `precision`: what was settled. The rest
    is the recipe's. None where there is no band.
    """

    rates: Sequence[LrRate] = ()
    noise: float | None = None
    steps: int = 100
    seeds: int = 1
    recipe_lr: float | None = None
    best_lr: float | None = None
    lr: float | None = None
    lr_low: float | None = None
    lr_high: float | None = None
    edge: str | None = None
    errors: Sequence[str] = ()
    precision: Mapping[str, Any] = field(default_factory=dict)
    optimizer: str = ""
    weight_decay: float | None = None
    momentum: float | None = None
    dropout: float | None = None
    clip_norm: float | None = None
