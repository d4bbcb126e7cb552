"""Activations and gradients of every layer of the fresh model, on one batch; and whether their sizes let it learn."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from tuner.checks.rescaled_start.evidence import RescaledStart
from tuner.checks.tools import outputs as _outputs
from tuner.checks.tools.cost import affordable, demand
from tuner.checks.tools.forwards import LINEAR, Units, _by_unit
from tuner.checks.tools.frame import (
    Batch,
    CannotProbe,
    before_training,
    forward,
    fresh_model,
    fresh_optimizer,
    gathered,
    random_state,
    sample,
    train_once,
)
from tuner.checks.tools.heads import head_of
from tuner.core.streams import derive_seed
from tuner.train.setup import Setup

FADES = 0.05  # a signal that keeps more than this on its way through the layers is not asked further
STEPS = 200  # of an attempt; a model that is rescaled gets half as many
TRIED = 3  # rates
BATCHES = 8
SOME = 64  # examples that a signal is measured on
SMOOTHED = 10
LEARNT, CLEARLY = 0.97, 0.75  # of the loss of a constant output: a slow start is one


@before_training
def rescaled_start(setup: Setup) -> RescaledStart:
    """Where the signal fades with depth, train on a few batches as initialised, and with every layer's size fixed.

    The intervention: each linear layer in turn is scaled to outputs of unit spread around 0 (as Mishkin and Matas 2016
    do, on weights that are drawn as before). `learns`: the loss falls below that of a constant output, at the recipe's
    rate, ten times that or a tenth.
    """
    size = min(64, setup.spec.tables["train"]["batch_size"])
    rows, some = sample(setup, BATCHES * size, "rescaled_start"), affordable(setup, SOME)
    model, loss = fresh_model(setup), setup.loss()
    left = _signal_left(model, gathered(setup, "train", rows[:some])[0])
    if left is None or left >= FADES:
        return RescaledStart.from_json({"left": left, "tried": False})
    demand(setup, TRIED * (STEPS + STEPS // 2) * size, "training as initialised and rescaled")
    inputs, targets = gathered(setup, "train", rows)
    head = head_of(setup)
    level = _outputs.constant_floor(loss, targets, head.of(len(targets)), head.kind)
    if level is None or level <= 0:
        raise CannotProbe("the loss has no positive value at a constant output to compare with")
    batches = list(zip(inputs.split(size), targets.split(size), strict=True))
    rate = float(setup.spec.tables["optimizer"]["lr"])
    found: dict[str, Any] = {"left": left, "tried": True, "level": level, "rates": [rate, 10 * rate, rate / 10]}
    for name, steps, share in (("as_is", STEPS, LEARNT), ("rescaled", STEPS // 2, CLEARLY)):
        lowest, taken = math.inf, 0
        for lr in found["rates"]:
            model = fresh_model(setup)
            if name == "rescaled":
                _rescale(model, inputs[:SOME])
            reached, taken = _attempt(setup, model, batches, lr, steps, share * level)
            lowest = min(lowest, reached)
            if lowest < share * level:
                break
        found[name] = {"lowest": lowest, "steps": taken, "learns": lowest < share * level}
    return RescaledStart.from_json(found)


def _linear(model: nn.Module) -> list[nn.Module]:
    """Return the linear layers that hold plain weights, not all 0."""
    return [
        module
        for module in model.modules()
        if isinstance(module, LINEAR) and "weight" in module._parameters and bool((module.weight != 0).any())
    ]


def _signal_left(model: nn.Module, inputs: Tensor) -> float | None:
    """Return the spread over examples after the last hidden layer over that after the first; None without depth."""
    spreads: dict[nn.Module, float] = {}

    def look(module: nn.Module, given: tuple[Any, ...], outputs: Tensor) -> None:
        spreads.setdefault(module, Units.of(_by_unit(outputs)).spread or 0.0)

    _hooked_forward(model, inputs, look)
    seen = list(spreads.values())
    return seen[-2] / seen[0] if len(seen) >= 3 and seen[0] > 0 else None


def _rescale(model: nn.Module, inputs: Tensor) -> None:
    """Scale each linear layer, in the order of the forward, to outputs of unit spread over examples around 0."""
    done: set[nn.Module] = set()

    def fix(module: Any, given: tuple[Any, ...], outputs: Tensor) -> Tensor | None:
        units = Units.of(_by_unit(outputs))
        spread, middle = units.spread or 0.0, units.mean.to(outputs)
        if module in done or not spread > 0 or not module.weight.requires_grad:
            return None
        done.add(module)
        module.weight.div_(spread)
        if module.bias is None:
            return outputs / spread
        module.bias.sub_(middle).div_(spread)
        channels = [1, -1] + [1] * (outputs.ndim - 2) if outputs.ndim >= 4 else [-1]
        return (outputs - middle.reshape(channels)) / spread

    _hooked_forward(model, inputs, fix)


def _hooked_forward(model: nn.Module, inputs: Tensor, hook: Any) -> None:
    handles = [module.register_forward_hook(hook) for module in _linear(model)]
    try:
        with random_state(0):
            forward(model, inputs)
    finally:
        for handle in handles:
            handle.remove()


def _attempt(
    setup: Setup, model: nn.Module, batches: Sequence[Batch], lr: float, steps: int, enough: float
) -> tuple[float, int]:
    """Train until the loss, smoothed, is below `enough`; return the lowest that it was and the steps made."""
    optimizer, loss = fresh_optimizer(setup, model, decay=False, lr=lr), setup.loss()
    losses: list[float] = []
    lowest = math.inf
    for step in range(steps):
        with random_state(derive_seed(setup.spec.seed, "rescaled_start", step)):
            losses.append(train_once(setup, model.train(), batches[step % len(batches)], loss, optimizer))
        if not math.isfinite(losses[-1]):
            break
        if len(losses) >= SMOOTHED:
            lowest = min(lowest, statistics.fmean(losses[-SMOOTHED:]))
        if lowest < enough:
            break
    return lowest, len(losses)
