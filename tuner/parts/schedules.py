"""Learning-rate schedules: functions `build(optimizer, total_steps, steps_per_epoch, **args)`.

They are stepped once after every update. Durations are in epochs, factors are of the recipe's rate; `warmup_epochs` and
`hold_epochs` go before any of them. Adding a schedule is adding a function. One that does not depend on the horizon
(constant, step, ...) does not ask for `total_steps`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau

from tuner.core.errors import UsageError

ROUNDING = 1e-9  # of a length in updates, which is a product with a decimal fraction of an epoch


def constant(optimizer: Optimizer, steps_per_epoch: int, warmup_epochs: float = 0.0) -> LambdaLR:
    """Keep the rate; with warm-up, raise it linearly first.

    When: to compare rates, and at the end SWA or a decay by hand.
    warmup_epochs: 0 to 5.
    Source: the notes: the learning rate of Adam is often left alone; warm-up.
    """
    return _factor(optimizer, lambda step: 1.0, warmup_epochs * steps_per_epoch)


def step(optimizer: Optimizer, steps_per_epoch: int, step_epochs: float = 5, factor: float = 0.5) -> LambdaLR:
    """Multiply the rate by `factor` every `step_epochs` epochs (typical: halve every 5, or 0.1 every 20).

    When: a plain decay whose places are known to work.
    step_epochs: 1 to 30, log. factor: 0.1 to 0.7.
    Source: the notes on hyperparameters, StepLR: halve every five epochs; the notes on competitions.
    """
    _positive("step_epochs", step_epochs)
    return _factor(optimizer, lambda at: factor ** math.floor(_periods(at, step_epochs * steps_per_epoch)))


def multistep(optimizer: Optimizer, steps_per_epoch: int, milestones: Sequence[float], factor: float = 0.1) -> LambdaLR:
    """Multiply the rate by `factor` when each of `milestones` (epochs done) is reached.

    When: the curve shows where it gets flat.
    factor: 0.1 to 0.5.
    Source: the notes on hyperparameters, MultiStepLR; K. He et al. 2016.
    """
    steps = sorted(milestone * steps_per_epoch for milestone in milestones)
    return _factor(optimizer, lambda at: factor ** bisect_right(steps, at + ROUNDING))


def exponential(optimizer: Optimizer, steps_per_epoch: int, k: float = 0.05) -> LambdaLR:
    """Decay as lr0 exp(-k t), t in epochs.

    When: a smooth decay that does not depend on the horizon.
    k: 0.01 to 0.5, log.
    Source: the notes on hyperparameters, exponential decay.
    """
    return _factor(optimizer, lambda at: math.exp(-k * at / steps_per_epoch))


def inverse_time(optimizer: Optimizer, steps_per_epoch: int, k: float = 0.1) -> LambdaLR:
    """Decay as lr0 / (1 + k t), t in epochs.

    When: a slow decay that does not depend on the horizon.
    k: 0.01 to 1, log.
    Source: the notes on hyperparameters, decay as a fraction (k = 0.1).
    """
    return _factor(optimizer, lambda at: 1 / (1 + k * at / steps_per_epoch))


def cosine(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, warmup_epochs: float = 0.0, final: float = 0.0
) -> LambdaLR:
    """Decay along half a cosine to `final` times the rate at the end of the horizon, after a linear warm-up.

    When: the place to begin where the horizon is known.
    warmup_epochs: 0 to 5. final: 0 to 0.1.
    Source: I. Loshchilov, F. Hutter 2017, SGDR (without restarts); the notes, CosineAnnealingLR.
    """
    warmup = warmup_epochs * steps_per_epoch
    share = _share(warmup, total_steps)
    return _factor(optimizer, lambda at: final + (1 - final) * 0.5 * (1 + math.cos(math.pi * share(at))), warmup)


def linear(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, warmup_epochs: float = 0.0, final: float = 0.0
) -> LambdaLR:
    """Decay in a straight line to `final` times the rate at the end of the horizon, after a linear warm-up.

    When: as cosine; transformers.
    warmup_epochs: 0 to 5. final: 0 to 0.1.
    Source: A. Defazio et al. 2023, When, Why and How Much? (linear decay).
    """
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


def cosine_restarts(
    optimizer: Optimizer, steps_per_epoch: int, period_epochs: float = 5.0, growth: float = 1.0, final: float = 0.0
) -> LambdaLR:
    """Decay along half a cosine over `period_epochs`, begin again at the whole rate, each period `growth` times longer.

    When: snapshot ensembles (`train.snapshots`), and horizons that are not known.
    period_epochs: 1 to 20, log. growth: 1 to 2. final: 0 to 0.1.
    Source: I. Loshchilov, F. Hutter 2017, SGDR; the notes on competitions, cosine with several cycles.
    """
    _positive("period_epochs", period_epochs)
    if growth < 1:
        raise UsageError(f"schedule.growth: must be at least 1 (got {growth!r})")
    first = period_epochs * steps_per_epoch

    def factor(at: int) -> float:
        if growth == 1:
            share = _periods(at, first) % 1
        else:
            cycle = math.floor(math.log(at / first * (growth - 1) + 1, growth) + 1e-12)
            begun = first * (growth**cycle - 1) / (growth - 1)
            share = (at - begun) / (first * growth**cycle)
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * share))

    return _factor(optimizer, factor)


def polynomial(optimizer: Optimizer, total_steps: int, power: float = 2.0, final: float = 0.0) -> LambdaLR:
    """Decay as (1 - t / T)^power to `final` times the rate at the end of the horizon.

    When: as linear (power 1), gentler at the end.
    power: 1 to 4. final: 0 to 0.1.
    Source: W. Liu et al. 2015, ParseNet (poly).
    """
    _positive("power", power)
    share = _share(0.0, total_steps)
    return _factor(optimizer, lambda at: final + (1 - final) * (1 - share(at)) ** power)


def wsd(optimizer: Optimizer, total_steps: int, decay: float = 0.2, final: float = 0.0) -> LambdaLR:
    """Keep the rate, and bring it down in a straight line over the last share `decay` of the horizon.

    When: a run that may be made longer: only its end is trained again. With `warmup_epochs`: warm-up, stable, decay.
    decay: 0.05 to 0.5. final: 0 to 0.1.
    Source: S. Hu et al. 2024, MiniCPM (WSD); A. Haegele et al. 2024.
    """
    if not 0 < decay <= 1:
        raise UsageError(f"schedule.decay: must be above 0, up to 1 (got {decay!r})")
    share = _share(0.0, total_steps)
    return _factor(optimizer, lambda at: 1 - (1 - final) * max(0.0, (share(at) - (1 - decay)) / decay))


def plateau(
    optimizer: Optimizer, factor: float = 0.1, patience: int = 4, threshold: float = 1e-4, least: float = 0.0
) -> ReduceLROnPlateau:
    """Multiply the rate by `factor` when the val loss has not fallen for more than `patience` epochs.

    It is stepped after every epoch.

    When: nothing is known of when the curve gets flat.
    factor: 0.1 to 0.5. patience: 2 to 10.
    Source: the notes on competitions, ReduceLROnPlateau: patience 4 or 5, factor 0.1.
    """
    return ReduceLROnPlateau(optimizer, factor=factor, patience=patience, threshold=threshold, min_lr=least)


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


def _periods(at: int, length: float) -> float:
    """Return how many periods of so many updates are over, whole where it is whole but for rounding (0.07 * 100)."""
    periods = at / length
    return round(periods) if abs(periods - round(periods)) < ROUNDING else periods


def _positive(key: str, value: float) -> None:
    if not value > 0:
        raise UsageError(f"schedule.{key}: must be greater than 0 (got {value!r})")
