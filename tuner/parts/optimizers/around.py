"""Optimizers around another one, `base`, which takes the other arguments of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tuner.core.errors import UsageError
from tuner.parts.optimizers._inner import Around


def sam(
    params: Any, lr: float, model: nn.Module | None = None, base: str = "sgd", rho: float = 0.05, **args: Any
) -> torch.optim.Optimizer:
    """Step by the gradient at the worst place within `rho` of the weights: two forward and backward passes an update.

    The worst place is looked for along the gradient, rho g / |g|. Batch norm's statistics are moved by the first pass
    only.

    When: the gap between train and val is large, and twice the time per step is affordable.
    rho: 0.01 to 0.5, log.
    Source: P. Foret et al. 2020, Sharpness-Aware Minimization.
    """
    if not rho > 0:
        raise UsageError(f"optimizer.rho: must be greater than 0 (got {rho!r})")
    return _Sam(params, lr, base, args, {"rho": rho}, model)


def lookahead(
    params: Any, lr: float, base: str = "adamw", k: int = 5, alpha: float = 0.5, **args: Any
) -> torch.optim.Optimizer:
    """Every `k` updates go back to slow weights that have moved by `alpha` of the way to the fast ones.

    When: the loss is noisy at a rate that is otherwise good.
    k: 2 to 20, log. alpha: 0.2 to 0.8.
    Source: M. Zhang et al. 2019, Lookahead Optimizer: k steps forward, 1 step back.
    """
    if not isinstance(k, int) or k < 1:
        raise UsageError(f"optimizer.k: must be an integer of at least 1 (got {k!r})")
    if not 0 < alpha <= 1:
        raise UsageError(f"optimizer.alpha: must be above 0, up to 1 (got {alpha!r})")
    return _Lookahead(params, lr, base, args, {"k": k, "alpha": alpha, "updates": 0})


class _Sam(Around):
    needs_closure = True

    def __init__(self, params: Any, lr: float, base: str, args: Any, own: Any, model: nn.Module | None) -> None:
        super().__init__(params, lr, base, args, own)
        norms = [] if model is None else [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
        self.norms = [module for module in norms if module.track_running_stats]

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        with torch.enable_grad():
            loss = closure()
        moved: list[tuple[Tensor, Tensor]] = []
        grads = [item.grad for group in self.param_groups for item in group["params"] if item.grad is not None]
        norm = nn.utils.get_total_norm(grads) if grads else torch.zeros(())
        for group in self.param_groups:
            for item in group["params"]:
                if item.grad is not None:
                    moved.append((item, item.detach().clone()))
                    item.add_(item.grad * (group["rho"] / (norm + 1e-12)).to(item.device))
        momenta = [module.momentum for module in self.norms]
        counted = [None if m.num_batches_tracked is None else m.num_batches_tracked.clone() for m in self.norms]
        for module in self.norms:
            module.momentum = 0.0
        with torch.enable_grad():
            closure()
        for module, momentum, count in zip(self.norms, momenta, counted, strict=True):
            module.momentum = momentum
            if count is not None and module.num_batches_tracked is not None:
                module.num_batches_tracked.copy_(count)
        for item, before in moved:
            item.copy_(before)
        self.inner.step()
        return loss


class _Lookahead(Around):
    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Any:  # type: ignore[override]
        for group in self.param_groups:
            if group["updates"] == 0:
                for item in group["params"]:
                    self.slow[item] = item.detach().clone()
        loss = self.inner.step(closure)  # type: ignore[arg-type]
        for group in self.param_groups:
            group["updates"] += 1
            for item in group["params"] if group["updates"] % group["k"] == 0 else ():
                slow = self.slow[item]
                slow.lerp_(item, group["alpha"])
                item.copy_(slow)
        return loss

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.slow: dict[Tensor, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        items = [item for group in self.param_groups for item in group["params"]]
        return {
            **super().state_dict(),
            "slow": {i: self.slow[item] for i, item in enumerate(items) if item in self.slow},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        slow = state_dict["slow"]
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "slow"})
        items = [item for group in self.param_groups for item in group["params"]]
        self.slow = {items[i]: value.to(items[i].device, copy=True) for i, value in slow.items()}
