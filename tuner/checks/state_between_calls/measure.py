"""Whether a model carries something from one call to the next."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tuner.checks.state_between_calls.evidence import StateBetweenCalls
from tuner.checks.tools.cost import affordable
from tuner.checks.tools.frame import CannotProbe, before_training, one_batch, random_state, shaken_model
from tuner.train.device import seed_everything
from tuner.train.setup import Setup

EXAMPLES = 16
PLAIN = (bool, int, float, str)


@before_training
def state_between_calls(setup: Setup) -> StateBetweenCalls:
    """Call the model in eval mode on one batch, on another of the same size, and on the first again.

    The random state is the same for each call: outputs that differ come from what the model kept.
    """
    (first, _), (other, _) = (one_batch(setup, affordable(setup, EXAMPLES), f"state {name}") for name in "ab")
    if len(first) != len(other) or torch.equal(first, other):
        raise CannotProbe("there are too few different examples")
    model = shaken_model(setup).eval()
    once = _called(model, first)
    before = _attributes(model)
    _called(model, other)
    again = _called(model, first)
    after = _attributes(model)
    changed = [name for name, value in after.items() if name not in before or not _alike(before[name], value)]
    spread = once.std().clamp_min(1e-6)
    return StateBetweenCalls(differ=float((once - again).abs().max() / spread), changed=changed[:8])


def _called(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return all real numbers of the outputs, of whatever form, in one row."""
    with torch.no_grad(), random_state(0):
        seed_everything(0)
        tensors = list(_tensors(model(inputs)))
    if not tensors:
        raise CannotProbe("the outputs hold no tensor")
    return torch.cat([item.detach().float().flatten() for item in tensors])


def _tensors(value: Any) -> Any:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _attributes(model: nn.Module) -> dict[str, Any]:
    """Return the modules' own attributes that a forward may leave something in, by dotted name."""
    found: dict[str, Any] = {}
    for where, module in model.named_modules():
        for name, value in vars(module).items():
            if name.startswith("_") or name == "training" or isinstance(value, nn.Module):
                continue
            held = tuple(_tensors(value)) if not isinstance(value, PLAIN) else value
            if held != ():
                found[f"{where}.{name}".lstrip(".")] = held
    return found


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    return type(one) is type(other) and one == other
