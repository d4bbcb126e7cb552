"""Evaluation of the fresh model: is it repeatable, and is each example judged by itself?"""

from __future__ import annotations

import torch

from tuner.checks.neighbours.evidence import Neighbours
from tuner.checks.tools.cost import affordable
from tuner.checks.tools.evaluations import _differs
from tuner.checks.tools.frame import CannotProbe, before_training, forward, one_batch, random_state, shaken_model
from tuner.train.setup import Setup


@before_training
def neighbours(setup: Setup) -> Neighbours:
    """Swap the examples before and after a part of an eval-mode batch: its own outputs must stay as they are.

    On both sides, since what runs along the batch, as a recurrent layer that takes it for time, only looks back.
    """
    inputs, _ = one_batch(setup, affordable(setup, 48), "neighbours")
    part = len(inputs) // 3
    if part < 2:
        raise CannotProbe(f"only {len(inputs)} train examples")
    model = shaken_model(setup).eval()
    kept, one, other = inputs[:part], inputs[part : 2 * part], inputs[2 * part : 3 * part]
    if torch.equal(one, other):
        raise CannotProbe("the examples are all the same")
    half, outputs = part // 2, []
    for around in (one, other):
        with random_state(0):
            outputs.append(forward(model, torch.cat([around[:half], kept, around[half:]])))
    if len(outputs[0]) != 2 * part:
        return Neighbours(differ=None, outputs=len(outputs[0]), inputs=2 * part)
    first, second = (given[half : half + part] for given in outputs)
    return Neighbours(differ=_differs(first, second), outputs=2 * part, inputs=2 * part)
