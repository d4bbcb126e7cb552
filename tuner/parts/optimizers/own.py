"""Optimizers that torch has not, or not for a whole model: SWATS, and Muon with AdamW for what it is not made for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tuner.core.errors import UsageError
from tuner.parts.blocks import head_of


def swats(
    params: Any,
    lr: float = 1e-3,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-9,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> torch.optim.Optimizer:
    """Begin with Adam, and go on with SGD as soon as the rate that SGD would need has settled.

    That rate is the length of Adam's step over its projection on the gradient, averaged; the parameter whose rate has
    settled to within `eps` (absolute) of its average switches its group. A schedule goes on scaling it.

    When: Adam is fast and generalises worse than SGD.
    eps: 1e-9 to 1e-5, log.
    Source: N. Keskar, R. Socher 2017, Switching from Adam to SGD; the notes, Adam first, then SGD.
    """
    defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay, "nesterov": nesterov}
    return _Swats(params, {**defaults, "phase": "adam", "scale": 1.0})


class _Swats(torch.optim.Optimizer):
    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            update = self._adam if group["phase"] == "adam" else self._sgd
            found = [update(group, item) for item in group["params"] if item.grad is not None]
            if rates := [rate for rate in found if rate is not None]:
                group["phase"], group["scale"] = "sgd", rates[-1] / group["lr"]

    def _adam(self, group: dict[str, Any], item: Tensor) -> float | None:
        """Make Adam's step; return the rate for SGD once it has settled."""
        grad, state = self._decayed(group, item), self.state[item]
        (beta1, beta2), eps = group["betas"], group["eps"]
        if not state:
            zeros = {name: torch.zeros_like(item) for name in ("mean", "square")}
            state |= {**zeros, "rate": item.new_zeros(1), "updates": 0}
        state["updates"] += 1  # its own: weights that are released later have had fewer than their group
        updates = state["updates"]
        state["mean"].lerp_(grad, 1 - beta1)
        state["square"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
        size = group["lr"] * math.sqrt(1 - beta2**updates) / (1 - beta1**updates)
        step = -size * state["mean"] / state["square"].sqrt().add_(eps)
        item.add_(step)
        along = (step * grad).sum()
        if along == 0:
            return None
        wanted = (step * step).sum() / -along
        state["rate"].lerp_(wanted, 1 - beta2)
        mean = state["rate"] / (1 - beta2**updates)
        settled = updates > 1 and float(mean) > 0 and abs(float(mean) - float(wanted)) < eps
        return float(mean) if settled else None

    def _sgd(self, group: dict[str, Any], item: Tensor) -> None:
        grad, state, beta1 = self._decayed(group, item), self.state[item], group["betas"][0]
        buffer = state.setdefault("momentum", torch.zeros_like(item))
        buffer.mul_(beta1).add_(grad)
        step = (1 - beta1) * buffer + (beta1 * buffer if group["nesterov"] else 0)
        item.add_(step, alpha=-group["lr"] * group["scale"])

    def _decayed(self, group: dict[str, Any], item: Tensor) -> Tensor:
        assert item.grad is not None
        return item.grad.add(item, alpha=group["weight_decay"]) if group["weight_decay"] else item.grad


def muon(
    params: Any,
    lr: float,
    model: nn.Module,
    momentum: float = 0.95,
    weight_decay: float = 0.1,
    adamw_lr: float = 3e-4,
    betas: Sequence[float] = (0.9, 0.95),
) -> torch.optim.Optimizer:
    """Step hidden weight matrices by the nearest orthogonal matrix to the momentum; everything else by AdamW.

    Muon is for matrices alone: biases, norms, embeddings, convolutions and the head go to AdamW, at `adamw_lr` times
    what the schedule makes of it.

    When: transformers and MLPs with wide hidden layers.
    momentum: 0.9 to 0.99. adamw_lr: 1e-4 to 1e-2, log. weight_decay: 1e-3 to 0.3, log.
    Source: K. Jordan et al. 2024, Muon.
    """
    if any(isinstance(item, dict) for item in params):
        raise UsageError(
            "optimizer.groups: muon makes its own groups, of matrices and of all else",
            'Leave groups (and finetune.way = "discriminative") out, or take adamw or sgd.',
        )
    embedded = {item for m in model.modules() if isinstance(m, nn.Embedding) for item in m.parameters()}
    apart = embedded | set(head_of(model).parameters())
    trained = [item for item in model.parameters() if item.requires_grad]
    hidden = [item for item in trained if item.ndim == 2 and item not in apart]
    if not hidden:
        raise UsageError(
            "optimizer.name: muon has no hidden weight matrix to step: the model has convolutions and a head alone",
            "Take adamw or sgd.",
        )
    matrices = set(hidden)
    rest = [item for item in trained if item not in matrices]
    return _Muon(hidden, rest, lr, adamw_lr, {"momentum": momentum, "weight_decay": weight_decay}, tuple(betas))


class _Muon(torch.optim.Optimizer):
    def __init__(
        self, hidden: list[Any], rest: list[Any], lr: float, adamw_lr: float, own: dict[str, float], betas: Any
    ) -> None:
        decay = own["weight_decay"]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(hidden, lr=lr, momentum=own["momentum"], weight_decay=decay)
        ]
        if rest:
            self.parts.append(torch.optim.AdamW(rest, lr=adamw_lr, betas=betas, weight_decay=decay))
        super().__init__(
            [{"params": part.param_groups[0]["params"], **part.defaults} for part in self.parts], {"lr": lr}
        )
        self._share()

    def _share(self) -> None:
        for part, group in zip(self.parts, self.param_groups, strict=True):
            part.param_groups, part.state = [group], self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> None:  # type: ignore[override]
        for part in self.parts:
            part.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()
