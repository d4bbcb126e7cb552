"""Whether updates under one gradient lead anywhere: an optimizer that keeps weights may put the first ones back."""

from __future__ import annotations

import torch
from torch import nn

from tuner.checks.tools.frame import CannotProbe, before_training, fresh_model, fresh_optimizer
from tuner.checks.weights_return.evidence import WeightsReturn
from tuner.train.setup import Setup

UPDATES = 20  # lookahead's and others' cycles are of 5 to 10
GRADIENT = 1e-2


@before_training
def weights_return(setup: Setup) -> WeightsReturn:
    """Make updates with a constant gradient, without any forward, and say after which the first weights are back."""
    model = fresh_model(setup)
    optimizer = fresh_optimizer(setup, model, decay=False)
    if isinstance(optimizer, (torch.optim.LBFGS, torch.optim.SparseAdam)):
        raise CannotProbe(f"{type(optimizer).__name__} takes no constant dense gradients")
    weights: list[nn.Parameter] = [item for item in model.parameters() if item.requires_grad]
    first = [item.detach().clone() for item in weights]

    def closure() -> torch.Tensor:
        for item in weights:
            item.grad = torch.full_like(item, GRADIENT)
        return torch.zeros(())

    moved, returned = False, []
    for update in range(1, UPDATES + 1):
        closure()
        optimizer.step(closure)  # type: ignore[arg-type]
        same = all(torch.equal(item.detach(), before) for item, before in zip(weights, first, strict=True))
        if moved and same:
            returned.append(update)
        moved |= not same
    return WeightsReturn(UPDATES, returned)
