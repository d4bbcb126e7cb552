"""Activations and gradients of every layer of the fresh model, on one batch; and whether their sizes let it learn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tuner.checks.layers.evidence import Layers
from tuner.checks.tools.cost import affordable
from tuner.checks.tools.forwards import LINEAR, Units, _by_unit
from tuner.checks.tools.frame import before_training, equal_batches, fresh_model, random_state, takes
from tuner.train.own_loss import told
from tuner.train.setup import Setup

ENOUGH = 64  # examples: fewer do not say what a unit never does
MOST_IMAGES = 256  # each of which shows a unit of a convolution hundreds of places
RECTIFIERS = (nn.ReLU, nn.ReLU6)


# the share of a squashing unit's range, at each end, that counts as saturated
SATURATED = {nn.Tanh: (-0.99, 0.99), nn.Sigmoid: (0.01, 0.99)}


@before_training
@takes(4)
def layers(setup: Setup, examples: int = 512) -> Layers:
    """Measure every leaf module's outputs in a train-mode forward (dropout off) and its gradient after one backward."""
    examples = min(examples, MOST_IMAGES) if setup.data.is_image else examples
    examples = min(examples, max(ENOUGH, affordable(setup, examples)))
    inputs, targets = (torch.cat(part) for part in zip(*equal_batches(setup, examples, "layers"), strict=True))
    examples, model, loss = len(targets), fresh_model(setup), setup.loss()
    names = {module: name for name, module in model.named_modules() if not list(module.children())}
    seen: dict[str, dict[str, Any]] = {}
    units: list[int] = []  # of the linear layers so far

    def look(module: nn.Module, given: tuple[Any, ...], outputs: Any) -> None:
        if isinstance(outputs, Tensor) and outputs.is_floating_point() and names[module] not in seen:
            seen[names[module]] = _measure(module, given, outputs.detach(), units[-1] if units else None)
            if isinstance(module, LINEAR):
                units.append(int(outputs.shape[1] if outputs.ndim >= 4 else outputs.shape[-1]))

    hooks = [module.register_forward_hook(look) for module in names]
    try:
        with random_state(setup.spec.seed), told(targets):
            some = affordable(setup, examples, trained=True)
            with torch.set_grad_enabled(some >= examples):  # where a backward over all is too much, no graph is kept
                outputs = model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if some < examples:
        inputs, targets = inputs[:some], targets[:some]
        with random_state(setup.spec.seed), told(targets):
            outputs = model(inputs)
    loss(outputs, targets).backward()
    modules = dict(model.named_modules())
    for name, entry in seen.items():
        entry |= _weights(modules[name])
    return Layers.from_json(
        {"examples": examples, "layers": [{"name": name or "model", **entry} for name, entry in seen.items()]}
    )


def _measure(module: nn.Module, given: tuple[Any, ...], outputs: Tensor, before: int | None) -> dict[str, Any]:
    """Measure one layer; `before`: the units of the linear layer before it, None where it is the first."""
    units = _by_unit(outputs)
    sums = Units.of(units)
    entry: dict[str, Any] = {
        "type": type(module).__name__,
        "linear": isinstance(module, LINEAR),
        "activation_mean": float(sums.mean.mean()),
        "activation_std": sums.std,
        "signal_std": sums.spread,
        "zero_fraction": int(sums.zeros.sum()) / max(1, units.numel()),
        "dead_fraction": None,
        "saturated_fraction": None,
    }
    if isinstance(module, RECTIFIERS):
        entry["dead_fraction"] = float((sums.zeros == len(units)).double().mean())
    elif isinstance(module, LINEAR) and before is not None and isinstance(given[0], Tensor):
        entry["dead_input_fraction"] = _dead_inputs(given[0].detach(), before)
    if (ends := SATURATED.get(type(module))) is not None:
        entry["saturated_fraction"] = int(((units < ends[0]) | (units > ends[1])).count_nonzero()) / units.numel()
    return entry


def _dead_inputs(given: Tensor, before: int) -> float | None:
    """Return the share of the `before` units of the last linear layer that are 0 here for every example.

    Inputs that never go below zero come out of a rectifier, which may be a function and no module. Where they are a
    multiple of the units, they are these units at every place of a flattened image; where they are not, None.
    """
    width = given.shape[1 if given.ndim >= 4 else -1]
    if float(given.min()) != 0 or width % before:
        return None
    return float((_by_unit(given) == 0).all(0).reshape(before, -1).all(1).double().mean())


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
