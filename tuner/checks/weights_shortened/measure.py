"""What is done to the weights after each update, tried on weights that no update has moved."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tuner.checks.tools.cost import affordable
from tuner.checks.tools.frame import DoesNotApply, before_training, forward, fresh_model, one_batch
from tuner.checks.weights_shortened.evidence import WeightsShortened
from tuner.train.points import build
from tuner.train.setup import Setup

EXAMPLES = 64
SHORTER = 0.99  # of its length: less is rounding


@before_training
def weights_shortened(setup: Setup) -> WeightsShortened:
    """Call what follows an update on the untrained model, and compare units' weights and the outputs' spread."""
    points = build(setup.parts)
    if not points.at("after_update"):
        raise DoesNotApply("nothing is done to the weights after an update")
    model = fresh_model(setup)
    inputs = one_batch(setup, affordable(setup, EXAMPLES), "shortened")[0]
    before, spread = _lengths(model), _spread(forward(model, inputs))
    points.after_update(model=model, step=1, total_steps=1, steps_per_epoch=1)
    factors = (_lengths(model) / before.clamp_min(1e-12))[before > 0]
    shorter = factors[factors < SHORTER]
    after = _spread(forward(model, inputs))
    return WeightsShortened(
        shortened=len(shorter) / max(1, len(factors)),
        length=float(shorter.median()) if len(shorter) else None,
        left=after / spread if spread > 0 else None,
    )


def _spread(outputs: Tensor) -> float:
    """Return the standard deviation of an output over the examples, all outputs together."""
    return float((outputs - outputs.mean(0)).square().mean().sqrt())


@torch.no_grad()
def _lengths(model: nn.Module) -> Tensor:
    """Return the length of each unit's weights, those of all layers in a row."""
    found = [item.flatten(1).float().norm(dim=1).cpu() for item in model.parameters() if item.ndim > 1]
    return torch.cat(found) if found else torch.zeros(0)
