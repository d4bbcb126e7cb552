"""Whether an update depends on all of its batch, and the loss on every class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tuner.checks.batch_use.evidence import BatchUse
from tuner.checks.gradient_seen.measure import gradient_on
from tuner.checks.tools.frame import Batch, CannotProbe, before_training, one_batch

ROUNDS = 3  # batches, in all of which it must be the same half that is not used


SAME = 1e-4  # of the gradient's norm: rounding in single precision


@before_training
def batch_use(setup: Any) -> BatchUse:
    """Put other examples in the place of either half of a batch: the gradient that the update sees must change.

    `idle`: the halves (0, 1) without effect in every round.
    """
    size = min(64, setup.spec.tables["train"]["batch_size"])
    if size < 4:
        raise CannotProbe(f"batches of {size}")
    idle = {0, 1}
    for index in range(ROUNDS):
        batch, other = (one_batch(setup, size, f"batch use {index} {which}") for which in "ab")
        plain = _flat(gradient_on(setup, batch)[0])
        room = SAME * float(plain.norm())
        if not room or not torch.isfinite(plain).all():
            raise CannotProbe("the update has no gradient, or none that is finite")
        for half in sorted(idle):
            changed = _flat(gradient_on(setup, _with_half(batch, other, half))[0])
            if len(changed) != len(plain) or float((changed - plain).norm()) > room:
                idle.discard(half)
        if not idle:
            break
    return BatchUse(idle=sorted(idle), batch_size=size)


def _with_half(batch: Batch, other: Batch, half: int) -> Batch:
    middle = len(batch[1]) // 2
    parts = ((other, batch), (batch, other))[half]
    inputs, targets = (torch.cat([parts[0][i][:middle], parts[1][i][middle:]]) for i in (0, 1))
    return inputs, targets


def _flat(gradients: dict[str, Tensor | None]) -> Tensor:
    return torch.cat([g.flatten().double() for g in gradients.values() if g is not None] or [torch.zeros(1)])
