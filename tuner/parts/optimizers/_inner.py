"""An optimizer around another one: they share the parameter groups and the state, so that schedules reach both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tuner.core.errors import UsageError
from tuner.recipe.registry import bind, resolve


class Around(torch.optim.Optimizer):
    """Hold an inner optimizer of the same parameters; `state` has what the outer one adds beside the inner's."""

    inner: torch.optim.Optimizer

    def __init__(self, params: Any, lr: float, base: str, args: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        super().__init__(params, {"lr": lr, **own})
        self.inner = inner_of(base, self.param_groups, lr, args)
        self._share()

    def _share(self) -> None:
        self.inner.param_groups = self.param_groups
        self.inner.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()


def inner_of(base: str, params: Any, lr: float, args: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Build the optimizer that another one is put around.

    Raises:
        UsageError: it is unknown, needs a closure itself, or does not take an argument.
    """
    kind = resolve("optimizer", base, Path())
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)) or kind is torch.optim.LBFGS:
        raise UsageError(f"optimizer.base: {base!r} is no optimizer that another one can be put around", "Take sgd.")
    kwargs = bind(kind, {"params": params, "lr": lr}, args, "optimizer")
    if "betas" in kwargs:
        kwargs["betas"] = tuple(kwargs["betas"])
    return kind(**kwargs)
