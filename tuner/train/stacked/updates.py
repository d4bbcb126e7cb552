"""The updates of a stack's trials: each by its own optimizer, of which only the kernel is called where that is enough.

`step` of an optimizer gathers what it updates, and calls one kernel with it. For a small net the gathering takes three
times as long as the kernel; in a stack it is done once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from tuner.train.fused import give_velocities
from tuner.train.state import Training

Call = Callable[[], None]


class Update:
    """Updates one trial's weights by the gradients that are there. The first update makes the optimizer's state."""

    def __init__(self, training: Training) -> None:
        self._training = training
        self._kernels: list[Call] | None = None
        self._quick = is_quick(training.optimizer)

    def __call__(self) -> None:
        if self._kernels is None:
            self._training.optimizer.step()
            if self._quick:
                self._kernels = kernels(self._training.optimizer)
            return
        for kernel in self._kernels:
            kernel()
        self._training.count_update()


def is_quick(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether a step is one kernel over each group, and nothing listens to it but what is known here."""
    before = set(optimizer._optimizer_step_pre_hooks.values())  # of weights that have all had a gradient: done with
    counts = len(optimizer._optimizer_step_post_hooks) == 1
    if _global_optimizer_pre_hooks or _global_optimizer_post_hooks or not before <= {give_velocities} or not counts:
        return False
    if type(optimizer) not in KERNELS:
        return False
    groups = optimizer.param_groups
    return all(group.get("fused") and isinstance(group["lr"], float) for group in groups)


def kernels(optimizer: torch.optim.Optimizer) -> list[Call]:
    """Return a call for each group that does what a step of the optimizer does, with the settings of that moment."""
    return [KERNELS[type(optimizer)](optimizer, group) for group in optimizer.param_groups]


def _sgd(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> Call:
    params, grads, states = _tensors(optimizer, group)
    buffers = [state["momentum_buffer"] for state in states if state.get("momentum_buffer") is not None]

    def call() -> None:
        torch._fused_sgd_(
            params,
            grads,
            buffers,
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=group["dampening"],
            nesterov=group["nesterov"],
            maximize=group["maximize"],
            is_first_step=False,
        )

    return call


def _adam(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> Call:
    params, grads, states = _tensors(optimizer, group)
    first, second = ([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq"))
    largest = [state["max_exp_avg_sq"] for state in states] if group["amsgrad"] else []
    counts = [state["step"] for state in states]
    kernel = torch._fused_adamw_ if group.get("decoupled_weight_decay") else torch._fused_adam_
    keys = ("amsgrad", "lr", "weight_decay", "eps", "maximize")

    def call() -> None:
        settings = {key: group[key] for key in keys}
        beta1, beta2 = group["betas"]
        torch._foreach_add_(counts, 1)
        kernel(params, grads, first, second, largest, counts, **settings, beta1=beta1, beta2=beta2)

    return call


def _tensors(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the weights of a group, their gradients, and what the optimizer keeps of each."""
    params = group["params"]
    return (
        [item.detach() for item in params],
        [item.grad for item in params],
        [optimizer.state[item] for item in params],
    )


KERNELS: Mapping[type, Callable[..., Call]] = {torch.optim.SGD: _sgd, torch.optim.Adam: _adam, torch.optim.AdamW: _adam}
