"""How much of the answers in train mode is the input's, and how much the draw of dropout."""

from __future__ import annotations

import torch
from torch import nn

from tuner.checks.dropout_noise.evidence import DropoutNoise
from tuner.checks.tools.cost import affordable
from tuner.checks.tools.frame import DROPOUT_RATES, DoesNotApply, before_training, forward, one_batch, random_state
from tuner.train.setup import Setup

EXAMPLES = 128
PASSES = 8
MUCH = 0.5  # the largest rate that is usual: with less, a net of ordinary depth is heard


@before_training
def dropout_noise(setup: Setup) -> DropoutNoise:
    """Take one batch through the untrained model in train mode, with several draws, and compare the outputs."""
    model = setup.model().train()
    rates = {name: rate for name, module in model.named_modules() if (rate := _rate(module)) > MUCH}
    if not rates:
        raise DoesNotApply("no rate of dropout is above a half")
    inputs = one_batch(setup, affordable(setup, EXAMPLES), "dropout")[0]
    total, own = None, 0.0
    for seed in range(PASSES):
        with random_state(seed):
            outputs = forward(model, inputs).flatten(1).double()
        outputs = outputs - outputs.mean(0)
        total = outputs if total is None else total + outputs
        own += float(outputs.square().sum())
    assert isinstance(total, torch.Tensor)
    pairs = (float(total.square().sum()) - own) / (PASSES - 1)
    shown = dict(sorted(rates.items(), key=lambda item: -item[1])[:8])
    return DropoutNoise(pairs / own if own > 0 else None, shown, PASSES, len(outputs))


def _rate(module: nn.Module) -> float:
    if "drop" not in type(module).__name__.lower():
        return 0.0
    return max(
        (float(rate) for name in DROPOUT_RATES if isinstance(rate := getattr(module, name, None), float)), default=0.0
    )
