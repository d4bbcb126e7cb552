"""Learning-rate schedules: functions `build(optimizer, total_steps, steps_per_epoch, **args)`.

They are stepped once after every update. Durations are in epochs, factors are of the recipe's rate. Adding a schedule
is adding a function. One that does not depend on the horizon (constant, step, ...) does not ask for `total_steps`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from tuner.core.errors import UsageError


def constant(optimizer: Optimizer, steps_per_epoch: int, warmup_epochs: float = 0.0) -> LambdaLR:
    """Keep the rate; with warm-up, raise it linearly first."""
    return _factor(optimizer, lambda step: 1.0, warmup_epochs * steps_per_epoch)


def step(optimizer: Optimizer, steps_per_epoch: int, step_epochs: float = 5, factor: float = 0.5) -> LambdaLR:
    """Multiply the rate by `factor` every `step_epochs` epochs (typical: halve every 5, or 0.1 every 20).

    Source: CS231n notes, annealing the learning rate.
    """
    _positive("step_epochs", step_epochs)
    return _factor(optimizer, lambda at: factor ** math.floor(at / steps_per_epoch / step_epochs))


def multistep(optimizer: Optimizer, steps_per_epoch: int, milestones: Sequence[float], factor: float = 0.1) -> LambdaLR:
    """Multiply the rate by `factor` when each of `milestones` (epochs done) is reached."""
    steps = sorted(milestone * steps_per_epoch for milestone in milestones)
    return _factor(optimizer, lambda at: factor ** bisect_right(steps, at))


def exponential(optimizer: Optimizer, steps_per_epoch: int, k: float = 0.05) -> LambdaLR:
    """Decay as lr0 exp(-k t), t in epochs."""
    return _factor(optimizer, lambda at: math.exp(-k * at / steps_per_epoch))


def inverse_time(optimizer: Optimizer, steps_per_epoch: int, k: float = 0.1) -> LambdaLR:
    """Decay as lr0 / (1 + k t), t in epochs.

    Source: the lecture's notes on hyperparameters.
    """
    return _factor(optimizer, lambda at: 1 / (1 + k * at / steps_per_epoch))


def cosine(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, warmup_epochs: float = 0.0, final: float = 0.0
) -> LambdaLR:
    """Decay along half a cosine to `final` times the rate at the end of the horizon, after a linear warm-up.

    Source: Loshchilov and Hutter 2017, SGDR (without restarts).
    """
    warmup = warmup_epochs * steps_per_epoch
    share = _share(warmup, total_steps)
    return _factor(optimizer, lambda at: final + (1 - final) * 0.5 * (1 + math.cos(math.pi * share(at))), warmup)


def linear(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, warmup_epochs: float = 0.0, final: float = 0.0
) -> LambdaLR:
    """Decay in a straight line to `final` times the rate at the end of the horizon, after a linear warm-up."""
    warmup = warmup_epochs * steps_per_epoch
    share = _share(warmup, total_steps)
    return _factor(optimizer, lambda at: 1 - (1 - final) * share(at), warmup)


def one_cycle(
    optimizer: Optimizer,
    total_steps: int,
    rise: float = 0.3,
    start: float = 0.04,
    final: float = 4e-6,
    cycle_momentum: bool = True,
) -> OneCycleLR:
    """Rise from `start` times the rate to the rate over the first `rise` of the horizon, then fall to `final` times it.

    Momentum moves the other way, 0.95 to 0.85 and back, where the optimizer has one and `cycle_momentum` is on.
    Source: Smith and Topin 2018, Super-Convergence; the defaults are torch's.
    """
    has_momentum = any(key in optimizer.defaults for key in ("momentum", "betas"))
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=max(total_steps, 2),
        pct_start=rise,
        div_factor=1 / start,
        final_div_factor=start / final,
        cycle_momentum=cycle_momentum and has_momentum,
    )


def _factor(optimizer: Optimizer, factor: Callable[[int], float], warmup_steps: float = 0.0) -> LambdaLR:
    """Multiply the optimizer's rates by `factor(updates done)`, times a linear ramp that ends after `warmup_steps`.

    The first update of a ramp of w steps has 1 / w of the rate, so that none is made with a rate of 0.
    """
    if warmup_steps < 0:
        raise UsageError(f"schedule.warmup_epochs: must not be negative (got {warmup_steps:g} steps)")
    return LambdaLR(optimizer, lambda at: factor(at) * min(1.0, (at + 1) / max(warmup_steps, 1.0)))


def _share(warmup: float, total_steps: int) -> Callable[[int], float]:
    """Return the function that tells which share (0..1) of the decay is over when `at` updates are done."""
    if warmup >= total_steps > 0:
        raise UsageError(
            f"schedule.warmup_epochs: the warm-up ({warmup:g} steps) is not shorter than the run ({total_steps} steps)",
            "Shorten it: a tenth of the run is usual.",
        )
    return lambda at: min(max((at - warmup) / max(total_steps - warmup, 1), 0.0), 1.0)


def _positive(key: str, value: float) -> None:
    if not value > 0:
        raise UsageError(f"schedule.{key}: must be greater than 0 (got {value!r})")
