"""The scale of a loss over cosines, seen by its slope where an answer is as wrong as it can be."""

from __future__ import annotations

import math

import torch
from torch import nn

from tuner.checks.cosine_scale.evidence import CosineScale
from tuner.checks.tools.frame import DoesNotApply, before_training, forward, fresh_model, one_batch
from tuner.core.errors import UsageError
from tuner.parts.blocks import head_of
from tuner.train.setup import Setup

EXAMPLES = 8
BOUND = 1 + 1e-4
FAR = 0.9  # of 1, where losses cut cosines off


@before_training
def cosine_scale(setup: Setup) -> CosineScale:
    """Ask whether outputs are cosines, and how steep the loss is with a wrong class near 1, the right one near -1."""
    model = fresh_model(setup)
    inputs, targets = one_batch(setup, EXAMPLES, "cosines")
    outputs = forward(model, inputs)
    classes = setup.data.num_classes
    if outputs.shape != (len(targets), classes) or classes < 3 or targets.ndim != 1 or targets.is_floating_point():
        raise DoesNotApply("the outputs are not the scores of three or more classes")
    if float(outputs.abs().max()) > BOUND or not _are_cosines(model, inputs, outputs):
        raise DoesNotApply("the outputs are no cosines")
    wrong = (targets + 1) % classes
    given = torch.zeros_like(outputs).scatter(1, targets[:, None], -FAR).scatter(1, wrong[:, None], FAR)
    given.requires_grad_(True)
    (slope,) = torch.autograd.grad(setup.loss()(given, targets), [given])
    steepest = float(slope.gather(1, wrong[:, None]).abs().mean()) * len(targets)
    return CosineScale(classes, steepest, math.sqrt(2) * math.log(classes - 1))


def _are_cosines(model: nn.Module, inputs: torch.Tensor, outputs: torch.Tensor) -> bool:
    """Return whether longer weights of the head change nothing."""
    try:
        weight = head_of(model).weight
    except UsageError:  # there is no linear layer
        return False
    if not isinstance(weight, torch.Tensor):
        return False
    with torch.no_grad():
        weight.mul_(3)
    return torch.allclose(forward(model, inputs), outputs, atol=1e-5) and float(outputs.std()) > 0
