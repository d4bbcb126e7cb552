"""What torch's own loss functions are given, wherever a loss calls them; and what their gradients leave out."""

from __future__ import annotations

import torch
from torch import Tensor

from tuner.checks.tools import outputs as _outputs
from tuner.checks.tools.cost import affordable
from tuner.checks.tools.frame import CannotProbe, before_training, forward, fresh_model, one_batch
from tuner.checks.unheard_mistakes.evidence import UnheardMistakes
from tuner.train.setup import Setup

EXAMPLES = 64


@before_training
def unheard_mistakes(setup: Setup) -> UnheardMistakes:
    """Ask the loss about free outputs, drawn at random: which wrongly answered examples have no gradient at all?

    `wrong`: how many examples are answered wrongly; `silent`: the share of them for which no output has a gradient,
    to the last bit; `silent_right`: the same of those that are answered right.
    """
    inputs, targets = one_batch(setup, affordable(setup, EXAMPLES), "unheard_mistakes")
    outputs = forward(fresh_model(setup), inputs)
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or outputs.shape[1] < setup.data.num_classes:
        raise CannotProbe("the outputs are not one score per class")
    kind = _outputs.kind_of(fresh_model(setup), inputs[:16])
    generator = torch.Generator().manual_seed(0)
    free = torch.randn(outputs.shape, generator=generator).to(outputs.device).requires_grad_()
    given = _outputs.HEADS[kind](free)
    try:
        setup.loss()(given, targets).backward()
    except _outputs.REFUSALS as error:
        raise CannotProbe(f"the loss does not take outputs at random: {error}".splitlines()[0]) from error
    if free.grad is None or targets.shape != outputs.shape[:1]:
        raise CannotProbe("the loss has no gradient for outputs, or targets are not one class per example")
    silent = (free.grad == 0).all(1)
    wrong = free.detach().argmax(1) != targets
    return UnheardMistakes(
        wrong=int(wrong.sum()),
        silent=float(silent[wrong].double().mean()) if bool(wrong.any()) else None,
        silent_right=float(silent[~wrong].double().mean()) if not bool(wrong.all()) else None,
    )
