"""Evaluation of the fresh model: is it repeatable, and is each example judged by itself?"""

from __future__ import annotations

import torch

from tuner.checks.input_use.evidence import InputUse
from tuner.checks.tools.cost import affordable
from tuner.checks.tools.frame import CannotProbe, before_training, forward, one_batch, shaken_model
from tuner.train.nested import blanked
from tuner.train.setup import Setup


@before_training
def input_use(setup: Setup) -> InputUse:
    """Measure how much the outputs of a shaken model vary over real examples, and change when inputs are zeroed."""
    inputs, _ = one_batch(setup, affordable(setup, 64), "input_use")
    if torch.equal(inputs, inputs[:1].expand_as(inputs)):
        raise CannotProbe("the examples are all the same")
    model = shaken_model(setup)
    real = forward(model, inputs)
    zeroed = forward(model, blanked(inputs))
    return InputUse(
        varies=float((real - real[:1]).abs().max()),
        changes_when_zeroed=float((real - zeroed).abs().max()),
        size=float(real.abs().max()),
    )
