"""Whether an update depends on all of its batch, and the loss on every class."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tuner.checks.classes_heard.evidence import ClassesHeard
from tuner.checks.tools import outputs as _outputs
from tuner.checks.tools.frame import CannotProbe, before_training
from tuner.checks.tools.heads import head_of
from tuner.train.setup import Setup

MOST_CLASSES = 100
EXAMPLES = 8


@before_training
def classes_heard(setup: Setup) -> ClassesHeard:
    """Ask the loss about batches of one class each: where no output has a gradient, it does not hear that class."""
    head, loss = head_of(setup), setup.loss()
    shape = head.of(EXAMPLES)
    targets = setup.data.targets("train")
    counts = torch.bincount(targets.clamp_min(0), minlength=setup.data.num_classes)
    if len(shape) != 2 or shape[1] < len(counts) or len(counts) > MOST_CLASSES:
        raise CannotProbe("the outputs are not one score per class, or there are too many classes")
    there = [label for label, count in enumerate(counts.tolist()) if count]
    like = targets[:1].to(setup.data.device)
    unheard = [label for label in there if _unheard(loss, label, shape, head.kind, like)]
    shares = {str(label): int(counts[label]) / len(targets) for label in unheard}
    return ClassesHeard(unheard=shares if len(unheard) < len(there) else {}, asked=len(there))


def _unheard(loss: Callable[..., Tensor], label: int, shape: torch.Size, kind: str, like: Tensor) -> bool:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(shape, generator=generator).to(like.device).requires_grad_()
    try:
        loss(_outputs.HEADS[kind](outputs), torch.full_like(like.expand(shape[0]), label)).backward()
    except _outputs.REFUSALS:
        return False
    gradient = outputs.grad
    return gradient is not None and not bool((gradient.nan_to_num() != 0).any())
