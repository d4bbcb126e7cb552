"""Evaluation: what a model gives on a split, in eval mode, without gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from tuner.core.errors import UserCodeError

Batches = Iterable[tuple[Tensor, Tensor]]
LossFunction = Callable[[Any, Tensor], Tensor]
Context = Callable[[], AbstractContextManager[Any]]


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Batches,
    loss: LossFunction,
    metric: Callable[..., Any] | None = None,
    autocast: Context = nullcontext,
) -> dict[str, float]:
    """Return the loss and the accuracy, each a mean over examples, and `metric` of the whole split where one is given.

    `accuracy` is left out where outputs are not (N, C). The model is left in eval mode.
    """
    model.eval()
    losses, sizes, hits, kept = [], [], [], []
    for inputs, targets in batches:
        with autocast():
            outputs = as_float(model(inputs))
        losses.append(loss(outputs, targets).detach())
        sizes.append(len(targets))
        if are_scores(outputs, targets):
            hits.append((outputs.argmax(dim=1) == targets).sum())
        if metric is not None:
            kept.append((outputs, targets))
    examples = sum(sizes)
    if examples == 0:
        return {}
    weights = torch.tensor(sizes, dtype=torch.float64)
    result = {"loss": float((torch.stack(losses).cpu().double() * weights).sum() / examples)}
    if len(hits) == len(sizes):
        result["accuracy"] = float(torch.stack(hits).sum()) / examples
    if metric is not None:
        result["metric"] = metric_value(metric, *joined(kept))
    return result


@torch.no_grad()
def predict(model: nn.Module, batches: Batches, autocast: Context = nullcontext) -> tuple[Tensor, Tensor]:
    """Return the outputs and the targets of a whole split, in its fixed order. The model is left in eval mode."""
    model.eval()
    kept = []
    for inputs, targets in batches:
        with autocast():
            kept.append((as_float(model(inputs)), targets))
    return joined(kept)


def joined(kept: list[tuple[Any, Tensor]]) -> tuple[Tensor, Tensor]:
    """Join the batches of a split.

    Raises:
        UserCodeError: "outputs are ..., not a tensor".
    """
    for outputs, _ in kept:
        if not isinstance(outputs, Tensor):
            raise UserCodeError(
                f"model.name: outputs are a {type(outputs).__name__}, not a tensor: they cannot be joined over a split",
                "Return one tensor, or write train.evaluate, and leave train.metric out.",
            )
    return torch.cat([outputs for outputs, _ in kept]), torch.cat([targets for _, targets in kept])


def as_float(outputs: Any) -> Any:
    """Return outputs of reduced precision as float32, so that every loss and metric computes in it."""
    is_short = isinstance(outputs, Tensor) and outputs.dtype in (torch.bfloat16, torch.float16)
    return outputs.float() if is_short else outputs


def are_scores(outputs: Any, targets: Tensor) -> bool:
    """Tell whether outputs are one row of class scores per example, (N, C)."""
    return isinstance(outputs, Tensor) and outputs.ndim == 2 and outputs.shape[0] == len(targets) and targets.ndim == 1


def hard(targets: Tensor) -> Tensor:
    """Return class indices; of targets that are shares of the classes, (N, C) float, the class of the largest share."""
    return targets.argmax(dim=1) if targets.ndim == 2 and targets.is_floating_point() else targets


def metric_value(metric: Callable[..., Any], outputs: Tensor, targets: Tensor) -> float:
    """Return the user's metric of a whole split as a number."""
    return as_number(metric(outputs=outputs, targets=targets), "train.metric: the metric")


def hook_values(value: Any) -> dict[str, float]:
    """Check what the user's evaluate returned: a dictionary of numbers with a loss.

    Raises:
        UserCodeError: "must return a dictionary", "must hold a 'loss'", "must be a number".
    """
    if not isinstance(value, Mapping):
        text = f"train.evaluate: must return a dictionary, returned a {type(value).__name__}"
        raise UserCodeError(text, 'Return {"loss": ..., "accuracy": ...}.')
    if "loss" not in value:
        text = (
            f"train.evaluate: the dictionary must hold a 'loss' (it holds: {', '.join(map(str, value)) or 'nothing'})"
        )
        raise UserCodeError(text, 'Return {"loss": ..., "accuracy": ...}.')
    return {str(key): as_number(item, f"train.evaluate: {key!r}") for key, item in value.items()}


def as_number(value: Any, what: str) -> float:
    """Return a float, from a number or a scalar tensor or array; an infinity or NaN passes.

    Raises:
        UserCodeError: "must be a number".
    """
    try:
        if isinstance(value, str):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        shown = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise UserCodeError(f"{what} must be a number (got {shown})", "Return a float or a scalar tensor.") from None


def better(score: float, val_loss: float, than: tuple[float, float] | None) -> bool:
    """Tell whether a score beats an earlier (score, val loss): it is larger, or equal with a lower loss."""
    if not math.isfinite(score):
        return False
    loss = val_loss if math.isfinite(val_loss) else math.inf
    return than is None or score > than[0] or (score == than[0] and loss < than[1])
