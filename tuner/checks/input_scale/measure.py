"""Look at every example of train and val once: numbers, labels, constant and repeated inputs. Never at test."""

from __future__ import annotations

import torch

from tuner.checks.input_scale.evidence import InputScale
from tuner.checks.tools.columns import _by_column
from tuner.checks.tools.cost import affordable
from tuner.checks.tools.frame import DoesNotApply, before_training, forward, one_batch, shaken_model, takes
from tuner.train.setup import Setup


@before_training
@takes(2)
def input_scale(setup: Setup, examples: int = 512) -> InputScale:
    """Measure the inputs as the model gets them, and whether their scale matters to it.

    The intervention: the same batch standardised per channel or column.
    """
    inputs, _ = one_batch(setup, affordable(setup, examples), "input_scale")
    if not inputs.is_floating_point():
        raise DoesNotApply(f"the inputs are {inputs.dtype}, not real numbers")
    columns = _by_column(inputs.cpu())
    mean, std = columns.mean((0, 2)), columns.transpose(0, 1).flatten(1).std(1, correction=0)
    shape = [1, -1] + [1] * (inputs.ndim - 2)
    # a column that does not vary is only shifted
    unit = torch.where(std > 0, std, torch.ones_like(std))
    standard = (inputs - mean.to(inputs).reshape(shape)) / unit.to(inputs).reshape(shape)
    model = shaken_model(setup)
    as_is, standardised = (float(forward(model, x).std(0).mean()) for x in (inputs, standard))
    return InputScale(
        mean=mean.tolist(),
        std=std.tolist(),
        min=float(columns.min()),
        max=float(columns.max()),
        spread_ratio=as_is / standardised if standardised > 0 else None,
    )
