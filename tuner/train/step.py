"""One update of the weights, as every recipe without a step of its own makes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tuner.core.errors import UsageError
from tuner.train.forward import Batch, How, forward
from tuner.train.state import Tape

ALONE = How()


def default_step(
    model: nn.Module,
    batch: Batch | Sequence[Batch],
    loss: Callable[[Any, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    how: How = ALONE,
    tape: Tape | None = None,
) -> Tensor:
    """Make one update on a batch, and return the objective before it.

    Of several batches the gradients are accumulated, each weighted by its share of the examples (or of what the loss
    divides by, `loss.counted`), so that the update is that of one large batch (but for batch norm, which sees the small
    ones, and for losses that compare examples).
    """
    batches: Sequence[Batch] = [batch] if isinstance(batch, tuple) else batch  # type: ignore[list-item]
    scaler = how.scaler if how.scaler is not None and how.scaler.is_enabled() else None
    objectives: list[Tensor] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        sizes = weights_of(batches, loss, how) if len(batches) > 1 else [1.0]
        total: Tensor | None = None
        for index, (batch, size) in enumerate(zip(batches, sizes, strict=True)):
            if size == 0 < sum(sizes):
                continue  # none of its positions has a class: its mean would be NaN
            if how.together is None:
                found = forward(model, batch, loss, how)
            else:
                found = how.together(batch, how, index == len(batches) - 1)
            objective, value = found.backward, found.objective
            if len(batches) > 1:
                share = size / (sum(sizes) or 1)
                objective, value = objective * share, value * share
            (objective if scaler is None else scaler.scale(objective)).backward()
            total = value if total is None else total + value
            if tape is not None and not objectives:
                tape.judge(found.outputs, found.targets)
        assert total is not None
        objectives.append(total)
        _clip(model, optimizer, how.clip_norm, scaler, tape)
        return total

    if needs_closure(optimizer):
        if scaler is not None:
            text = f"optimizer.name: {type(optimizer).__name__} evaluates the loss more than once in an update"
            raise UsageError(f"{text}, which does not go with fp16", 'Set train.precision = "bf16" or "fp32".')
        optimizer.step(closure)  # type: ignore[arg-type]  # LBFGS and SAM take a tensor
        return objectives[0]
    closure()
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    return objectives[0]


def weights_of(batches: Sequence[Batch], loss: Callable[[Any, Tensor], Tensor], how: How) -> list[float]:
    """Return by how much each batch counts in one large batch of them all; it waits for a GPU."""
    if how.together is not None:
        return [how.together.examples(batch) for batch in batches]
    counted = getattr(loss, "counted", len)
    return [float(counted(targets)) for _, targets in batches]


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether an optimizer computes the loss itself, more than once in an update (LBFGS, SAM)."""
    return isinstance(optimizer, torch.optim.LBFGS) or bool(getattr(optimizer, "needs_closure", False))


def _clip(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    limit: float | None,
    scaler: torch.amp.GradScaler | None,
    tape: Tape | None,
) -> None:
    if limit is None:
        return
    if scaler is not None:
        scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
    if tape is not None:
        tape.grad_norm = norm.detach()
