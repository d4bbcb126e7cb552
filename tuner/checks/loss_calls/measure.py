"""What torch's own loss functions are given, wherever a loss calls them; and what their gradients leave out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from tuner.checks.loss_calls.evidence import LossCalls
from tuner.checks.tools.cost import affordable
from tuner.checks.tools.frame import before_training, fresh_model, one_batch
from tuner.train.own_loss import of_model, told
from tuner.train.setup import Setup

LOG_SHARES = (F.kl_div, F.nll_loss)
BOTH_SIGNS = (F.soft_margin_loss, F.hinge_embedding_loss, F.cosine_embedding_loss, F.margin_ranking_loss)
EXACT = 1e-4
EXAMPLES = 64


class _Watch(TorchFunctionMode):
    """Notes the first two arguments of every call of a loss function of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[dict[str, Any]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (name := _watched(func)) is not None:
            tensors = [item for item in (*args, *kwargs.values()) if isinstance(item, Tensor)]
            self.calls.append({"function": name, **_given(func, tensors, kwargs)})
        return func(*args, **kwargs)


def _watched(func: Any) -> str | None:
    wanted = (*LOG_SHARES, *BOTH_SIGNS, F.cross_entropy)
    return func.__name__ if any(func is item for item in wanted) else None


def _given(func: Any, tensors: list[Tensor], kwargs: Any) -> dict[str, Any]:
    """Describe the outputs (the first tensor) and the targets (the last) of a call."""
    outputs, targets = tensors[0].detach().float(), tensors[-1].detach().float()
    finite = bool(outputs.isfinite().all()) and outputs.numel() > 0
    axis = 1 if outputs.ndim > 1 else 0
    return {
        "shape": list(outputs.shape),
        "low": float(outputs.min()) if finite else None,
        "high": float(outputs.max()) if finite else None,
        "are_shares": finite
        and outputs.ndim > 1
        and outputs.shape[axis] > 1
        and bool((outputs >= 0).all())
        and bool(((outputs.sum(axis) - 1).abs() < EXACT).all()),
        "target_values": sorted({round(float(value), 6) for value in targets.flatten()[:512]})[:4],
        "wants": "log-probabilities" if func in LOG_SHARES else "both signs" if func in BOTH_SIGNS else "logits",
    }


@before_training
def loss_calls(setup: Setup) -> LossCalls:
    """Call model and loss once, and say what torch's loss functions were given on the way.

    `calls`: per call its `function`, the `shape`, `low` and `high` of its outputs, whether these `are_shares` (not
    negative, 1 in sum over dimension 1), up to four of its `target_values`, and what it `wants`. Outputs of any form
    are seen, since the calls are watched and not the model.
    """
    inputs, targets = one_batch(setup, affordable(setup, EXAMPLES), "loss_calls")
    model, loss = fresh_model(setup), setup.loss()
    with torch.no_grad(), told(targets), _Watch() as watch:
        outputs = model(inputs)
        watch.calls = watch.calls if of_model(loss) else []  # what a model calls on its way is no loss otherwise
        loss(outputs, targets)
    return LossCalls.from_json({"calls": watch.calls[:16]})
