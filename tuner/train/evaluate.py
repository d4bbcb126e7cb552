"""Evaluation: what a model gives on a split, in eval mode, without gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from tuner.core.errors import UserCodeError
from tuner.train.nested import mapped, scored_part
from tuner.train.own_loss import told
from tuner.train.scoring import Scorer, Tally

Batches = Iterable[tuple[Tensor, Tensor]]
LossFunction = Callable[[Any, Tensor], Tensor]
Context = Callable[[], AbstractContextManager[Any]]


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Batches,
    loss: LossFunction,
    scorer: Scorer,
    metric: Callable[..., Any] | None = None,
    autocast: Context = nullcontext,
) -> dict[str, float]:
    """Return the loss, a mean over examples, the scorer's scores, and `metric` of the whole split where one is given.

    A loss that divides by what a batch counts (`loss.counted`: factors of classes, positions that have one) gives the
    mean that it would give of the whole split at once. Scores are left out where outputs have no shape that the task
    can score. The model is left in eval mode.
    """
    model.eval()
    losses, sizes, kept = [], [], []
    tally, counted = Tally(scorer), getattr(loss, "counted", len)
    for inputs, targets in batches:
        with told(targets):
            with autocast():
                outputs = as_float(model(inputs))
            losses.append(loss(outputs, targets).detach())
        sizes.append(counted(targets))
        tally.add(outputs, targets)
        if metric is not None:
            kept.append((scored_part(outputs), targets))
    if not losses:
        return {}
    weights = torch.tensor([float(size) for size in sizes], dtype=torch.float64)
    values = torch.where(weights > 0, torch.stack(losses).cpu().double(), 0.0)  # a mean of nothing is NaN, and counts 0
    result = {"loss": float((values * weights).sum() / weights.sum()), **tally.values()}
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
            kept.append((as_float(scored_part(model(inputs))), targets))
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
    if not isinstance(outputs, Tensor):
        return mapped(as_float, outputs) if isinstance(outputs, (tuple, list, dict)) else outputs
    return outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs


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
    """Return whether a score beats an earlier (score, val loss): it is larger, or equal with a lower loss."""
    if not math.isfinite(score):
        return False
    loss = val_loss if math.isfinite(val_loss) else math.inf
    return than is None or score > than[0] or (score == than[0] and loss < than[1])
