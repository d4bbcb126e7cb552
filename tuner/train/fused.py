"""Fused updates: torch's own optimizers move all weights in one kernel where that gives the same numbers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn


def can_fuse(fn: Callable[..., Any], kwargs: Mapping[str, Any], model: nn.Module) -> bool:
    """Return whether one of torch's own optimizers can update all weights in one kernel: the same update in a third of
    the time. Not with gradients scaled for fp16, where a skipped update would look like one that was made.
    """
    if not (isinstance(fn, type) and fn.__module__.startswith("torch.optim.")):
        return False
    others = ("fused", "foreach", "capturable", "differentiable")
    fusable = "fused" in inspect.signature(fn).parameters and not any(key in kwargs for key in others)
    sparse = any(getattr(module, "sparse", False) for module in model.modules())
    kinds = {(item.device.type, item.is_floating_point()) for item in model.parameters()}
    damped = bool(kwargs.get("dampening"))  # the first gradient is not damped: a velocity of 0 would not be the same
    known = [{("cpu", True)}, *([] if fn is torch.optim.Adagrad else [{("cuda", True)}])]  # some torches: on CPUs alone
    return fusable and not sparse and not damped and kinds in known


def with_late_gradients(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Let fused SGD move weights whose first gradient comes later than the others': released ones, or a block that the
    first batches skipped. Its kernel wants a velocity for all weights or for none (RuntimeError "expected Tensor as
    element 0 in argument 2"), so each starts at 0, which gives what no velocity gives.
    """
    if isinstance(optimizer, torch.optim.SGD) and optimizer.defaults["fused"] and optimizer.defaults["momentum"]:
        optimizer.register_step_pre_hook(give_velocities)
    return optimizer


def give_velocities(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Begin at 0 the velocities of weights that get their first gradient later than others."""
    weights = [item for group in optimizer.param_groups for item in group["params"] if item.grad is not None]
    late = [item for item in weights if optimizer.state[item].get("momentum_buffer") is None]
    if len(late) < len(weights):
        for item in late:
            optimizer.state[item]["momentum_buffer"] = torch.zeros_like(item)
