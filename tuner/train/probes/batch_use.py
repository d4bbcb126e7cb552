"""Whether an update depends on all of its batch, and the loss on every class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tuner.train.probes import _outputs
from tuner.train.probes._frame import Batch, CannotProbe, before_training, forward, fresh_model, one_batch
from tuner.train.probes.step import gradient_on

ROUNDS = 3  # batches, in all of which it must be the same half that is not used
SAME = 1e-4  # of the gradient's norm: rounding in single precision
MOST_CLASSES = 100


@before_training
def batch_use(setup: Any) -> dict[str, Any]:
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
    return {"idle": sorted(idle), "batch_size": size}


def _with_half(batch: Batch, other: Batch, half: int) -> Batch:
    middle = len(batch[1]) // 2
    parts = ((other, batch), (batch, other))[half]
    inputs, targets = (torch.cat([parts[0][i][:middle], parts[1][i][middle:]]) for i in (0, 1))
    return inputs, targets


def _flat(gradients: dict[str, Tensor | None]) -> Tensor:
    return torch.cat([g.flatten().double() for g in gradients.values() if g is not None] or [torch.zeros(1)])


@before_training
def classes_heard(setup: Any) -> dict[str, Any]:
    """Ask the loss about batches of one class each: where no output has a gradient, it does not hear that class.

    `unheard`: such classes with the share of train that they have; classes without examples are not asked.
    """
    inputs, _ = one_batch(setup, 8, "classes")
    model, loss = fresh_model(setup), setup.loss()
    shape = forward(model, inputs).shape
    targets = setup.data.targets("train")
    counts = torch.bincount(targets.clamp_min(0), minlength=setup.data.num_classes)
    if len(shape) != 2 or shape[1] < len(counts) or len(counts) > MOST_CLASSES:
        raise CannotProbe("the outputs are not one score per class, or there are too many classes")
    kind = _outputs.kind_of(model, inputs)
    there = [label for label, count in enumerate(counts.tolist()) if count]
    like = targets[:1].to(inputs.device)
    unheard = [label for label in there if _unheard(loss, label, shape, kind, like)]
    shares = {str(label): int(counts[label]) / len(targets) for label in unheard}
    return {"unheard": shares if len(unheard) < len(there) else {}, "asked": len(there)}


def _unheard(loss: Any, label: int, shape: torch.Size, kind: str, like: Tensor) -> bool:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(shape, generator=generator).to(like.device).requires_grad_()
    try:
        loss(_outputs.HEADS[kind](outputs), torch.full_like(like.expand(shape[0]), label)).backward()
    except _outputs.REFUSALS:
        return False
    gradient = outputs.grad
    return gradient is not None and not bool((gradient.nan_to_num() != 0).any())
