"""What torch's own loss functions are given, wherever a loss calls them; and what their gradients leave out."""

from __future__ import annotations

import torch
from torch import Tensor

from tuner.checks.tools import outputs as _outputs
from tuner.checks.tools.frame import CannotProbe, before_training, one_batch
from tuner.checks.tools.heads import head_of
from tuner.checks.unheard_mistakes.evidence import UnheardMistakes
from tuner.train.setup import Setup

EXAMPLES = 64


@before_training
def unheard_mistakes(setup: Setup) -> UnheardMistakes:
    """Ask the loss about free outputs, drawn at random: which wrongly answered examples have no gradient at all?"""
    head = head_of(setup)
    if len(head.shape) != 1 or head.shape[0] < setup.data.num_classes:
        raise CannotProbe("the outputs are not one score per class")
    _, targets = one_batch(setup, EXAMPLES, "unheard_mistakes")
    generator = torch.Generator().manual_seed(0)
    free = torch.randn(head.of(len(targets)), generator=generator).to(targets.device).requires_grad_()
    given, loss = _outputs.HEADS[head.kind](free), setup.loss()
    try:
        loss(given, targets).backward()
    except _outputs.REFUSALS as error:
        raise CannotProbe(f"the loss does not take outputs at random: {error}".splitlines()[0]) from error
    if free.grad is None or targets.shape != free.shape[:1]:
        raise CannotProbe("the loss has no gradient for outputs, or targets are not one class per example")
    silent = (free.grad == 0).all(1)
    for place in silent.nonzero()[:, 0].tolist():
        silent[place] = not _heard_alone(loss, given[place : place + 1], targets[place : place + 1])
    wrong = free.detach().argmax(1) != targets
    return UnheardMistakes(
        wrong=int(wrong.sum()),
        silent=float(silent[wrong].double().mean()) if bool(wrong.any()) else None,
        silent_right=float(silent[~wrong].double().mean()) if not bool(wrong.all()) else None,
    )


def _heard_alone(loss: _outputs.Loss, outputs: Tensor, targets: Tensor) -> bool:
    """Return whether an example that others silence has a gradient by itself: a loss of the hardest of a batch."""
    given = outputs.detach().clone().requires_grad_()
    try:
        loss(given, targets).backward()
    except _outputs.REFUSALS:
        return False
    return given.grad is not None and bool((given.grad != 0).any())
