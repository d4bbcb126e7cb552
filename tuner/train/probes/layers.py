"""Activations and gradients of every layer of the fresh model, on one batch; and whether their sizes let it learn."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tuner.core.streams import derive_seed
from tuner.train.probes import _outputs
from tuner.train.probes._frame import (
    Batch,
    CannotProbe,
    before_training,
    equal_batches,
    forward,
    fresh_model,
    fresh_optimizer,
    one_batch,
    random_state,
    train_once,
)

LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
MOST_IMAGES = 256  # each of which shows a unit of a convolution hundreds of places
RECTIFIERS = (nn.ReLU, nn.ReLU6)
# the share of a squashing unit's range, at each end, that counts as saturated
SATURATED = {nn.Tanh: (-0.99, 0.99), nn.Sigmoid: (0.01, 0.99)}
FADES = 0.05  # a signal that keeps more than this on its way through the layers is not asked further
STEPS = 200  # of an attempt; a model that is rescaled gets half as many
BATCHES = 8
SOME = 64  # examples that a signal is measured on
SMOOTHED = 10
LEARNT, CLEARLY = 0.97, 0.75  # of the loss of a constant output: a slow start is one


@before_training
def layers(setup: Any, examples: int = 512) -> dict[str, Any]:
    """Measure every leaf module's outputs in a train-mode forward (dropout off) and its gradient after one backward.

    `signal_std`: how much a unit varies over the examples, averaged over units; `dead_fraction`: the share of units
    that are zero for every example (rectifiers); `saturated_fraction`: outputs at the end of their range (tanh,
    sigmoid); `symmetric`: every unit of a weight tensor is the same, and not zero.
    """
    examples = min(examples, MOST_IMAGES) if setup.data.is_image else examples
    inputs, targets = (torch.cat(part) for part in zip(*equal_batches(setup, examples, "layers"), strict=True))
    model, loss = fresh_model(setup), setup.loss()
    names = {module: name for name, module in model.named_modules() if not list(module.children())}
    seen: dict[str, dict[str, Any]] = {}

    def look(module: nn.Module, given: tuple[Any, ...], outputs: Any) -> None:
        if isinstance(outputs, Tensor) and outputs.is_floating_point() and names[module] not in seen:
            first = not any(entry["linear"] for entry in seen.values())
            seen[names[module]] = _measure(module, given, outputs.detach(), first)

    hooks = [module.register_forward_hook(look) for module in names]
    try:
        with random_state(setup.spec.seed):
            outputs = model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    loss(outputs, targets).backward()
    modules = dict(model.named_modules())
    for name, entry in seen.items():
        entry |= _weights(modules[name])
    return {"examples": len(targets), "layers": [{"name": name or "model", **entry} for name, entry in seen.items()]}


def _measure(module: nn.Module, given: tuple[Any, ...], outputs: Tensor, first: bool) -> dict[str, Any]:
    units = _by_unit(outputs)
    entry: dict[str, Any] = {
        "type": type(module).__name__,
        "linear": isinstance(module, LINEAR),
        "activation_mean": float(units.mean()),
        "activation_std": float(units.std()),
        "signal_std": float(units.std(0).mean()) if len(units) > 1 else None,
        "zero_fraction": float((units == 0).double().mean()),
        "dead_fraction": None,
        "saturated_fraction": None,
    }
    if isinstance(module, RECTIFIERS):
        entry["dead_fraction"] = float((units == 0).all(0).double().mean())
    elif (
        isinstance(module, LINEAR)
        and not first
        and isinstance(given[0], Tensor)
        and float(given[0].detach().min()) == 0
    ):
        # inputs that never go below zero come out of a rectifier, which may be a function and no module
        entry["dead_input_fraction"] = float((_by_unit(given[0]) == 0).all(0).double().mean())
    if (ends := SATURATED.get(type(module))) is not None:
        entry["saturated_fraction"] = float(((units < ends[0]) | (units > ends[1])).double().mean())
    return entry


def _by_unit(outputs: Tensor) -> Tensor:
    """Return (observations, units): channels are dimension 1 of images, the last of everything else."""
    values = outputs.detach().float()
    if values.ndim >= 4:
        values = values.movedim(1, -1)
    return values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(-1, 1)


def _weights(module: nn.Module) -> dict[str, Any]:
    """Return the norms of a module's own parameters and of their gradients."""
    own = [p for p in module.parameters(recurse=False) if p.is_floating_point()]
    grads = [p.grad for p in own if p.grad is not None]
    weight = getattr(module, "weight", None)
    symmetric = None
    if isinstance(weight, Tensor) and weight.ndim >= 2 and weight.shape[0] > 1 and weight.requires_grad:
        symmetric = bool((weight == weight[:1]).all()) and bool((weight != 0).any())
    return {
        "weight_norm": float(torch.stack([p.detach().float().norm() for p in own]).norm()) if own else None,
        "grad_norm": float(torch.stack([g.float().norm() for g in grads]).norm()) if grads else None,
        "symmetric": symmetric,
    }


@before_training
def rescaled_start(setup: Any) -> dict[str, Any]:
    """Where the signal fades with depth, train on a few batches as initialised, and with every layer's size mended.

    The intervention: each linear layer in turn is scaled to outputs of unit spread around 0 (as Mishkin and Matas 2016
    do, on weights that are drawn as before). `learns`: the loss falls below that of a constant output, at the recipe's
    rate, ten times that or a tenth.
    """
    size = min(64, setup.spec.tables["train"]["batch_size"])
    inputs, targets = one_batch(setup, BATCHES * size, "rescaled_start")
    model, loss = fresh_model(setup), setup.loss()
    left = _signal_left(model, inputs[:SOME])
    if left is None or left >= FADES:
        return {"left": left, "tried": False}
    shape = torch.Size([len(targets), *forward(model, inputs[:SOME]).shape[1:]])
    level = _outputs.constant_floor(loss, targets, shape, _outputs.kind_of(model, inputs[:16]))
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
    return found


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
        spreads.setdefault(module, float(_by_unit(outputs).std(0).mean()))

    _hooked_forward(model, inputs, look)
    seen = list(spreads.values())
    return seen[-2] / seen[0] if len(seen) >= 3 and seen[0] > 0 else None


def _rescale(model: nn.Module, inputs: Tensor) -> None:
    """Scale each linear layer, in the order of the forward, to outputs of unit spread over examples around 0."""
    done: set[nn.Module] = set()

    def mend(module: Any, given: tuple[Any, ...], outputs: Tensor) -> Tensor | None:
        units = _by_unit(outputs)
        spread, middle = float(units.std(0).mean()), units.mean(0)
        if module in done or not spread > 0 or not module.weight.requires_grad:
            return None
        done.add(module)
        module.weight.div_(spread)
        if module.bias is None:
            return outputs / spread
        module.bias.sub_(middle).div_(spread)
        channels = [1, -1] + [1] * (outputs.ndim - 2) if outputs.ndim >= 4 else [-1]
        return (outputs - middle.reshape(channels)) / spread

    _hooked_forward(model, inputs, mend)


def _hooked_forward(model: nn.Module, inputs: Tensor, hook: Any) -> None:
    handles = [module.register_forward_hook(hook) for module in _linear(model)]
    try:
        with random_state(0):
            forward(model, inputs)
    finally:
        for handle in handles:
            handle.remove()


def _attempt(
    setup: Any, model: nn.Module, batches: Sequence[Batch], lr: float, steps: int, enough: float
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
