"""Evaluation of the fresh model: is it repeatable, and is each example judged by itself?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tuner.checks.linearity.evidence import Linearity
from tuner.checks.tools.cost import affordable
from tuner.checks.tools.frame import CannotProbe, before_training, forward, one_batch, shaken_model
from tuner.checks.tools.heads import head_of
from tuner.checks.tools.outputs import LAST
from tuner.train.setup import Setup


@before_training
def linearity(setup: Setup) -> Linearity:
    """Ask whether the model in eval mode is an affine function of its input: f(2a - b) = 2 f(a) - f(b) everywhere.

    Squashed outputs are unsquashed first. `deviation`: the largest deviation over the spread of the outputs.
    """
    inputs, _ = one_batch(setup, affordable(setup, 64), "linearity")
    half = len(inputs) // 2
    if not inputs.is_floating_point() or half < 2:
        raise CannotProbe("the inputs are no real numbers, or too few")
    model = shaken_model(setup).eval()
    a, b = inputs[:half], inputs[half : 2 * half]
    kind = head_of(setup).kind
    of_a, of_b, beyond = (_unsquashed(forward(model, x), kind) for x in (a, b, 2 * a - b))
    spread = float((of_a - of_a.mean(0)).abs().max())
    weights = [p for p in model.parameters() if p.ndim >= 2]
    if not all(bool(x.isfinite().all()) for x in (of_a, of_b, beyond)) or spread <= 1e-4 * float(of_a.abs().max()):
        raise CannotProbe("the outputs do not vary, or are not finite")
    deviation = float((beyond - (2 * of_a - of_b)).abs().max()) / spread
    with torch.no_grad():
        for item in weights:
            item.mul_(2)
    doubled = _unsquashed(forward(model, a), kind)
    times = float((doubled - doubled.mean(0)).abs().max()) / spread
    depth = math.log2(times) if 0 < times < math.inf else None
    return Linearity(deviation=deviation, weights=len(weights), depth=depth)


def _unsquashed(outputs: Tensor, kind: str) -> Tensor:
    """Undo the squashing of a head, up to a constant per example."""
    if kind == "unit":
        return torch.logit(outputs)
    if kind == "signed":
        return torch.atanh(outputs)
    if kind == "logits":
        return outputs
    logs = outputs.log() if kind.startswith("probabilities") else outputs
    return logs - logs.mean(-1 if kind.endswith(LAST) else 1, keepdim=True)
