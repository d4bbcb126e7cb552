"""What the device can compute in, and how much arithmetic the model asks of it."""

from __future__ import annotations

import torch
from torch import nn

from tuner.checks.hardware.evidence import Hardware
from tuner.core.errors import user_code
from tuner.train import operations
from tuner.train.device import short_format
from tuner.train.setup import Setup


def hardware(setup: Setup) -> Hardware:
    """Say which short format the device multiplies in, and the multiply-adds of a forward of one train batch."""
    model = setup.model()
    inputs, _ = next(iter(setup.data.epoch(setup.spec.seed, 1, setup.batch_size)))
    counted = operations.counter()
    with torch.no_grad(), counted, user_code("model", setup.env.recipe_dir):
        model(inputs)
    convolutions = [item for item in model.modules() if isinstance(item, (nn.Conv1d, nn.Conv2d, nn.Conv3d))]
    return Hardware(
        short=short_format(setup.env.device),
        multiply_adds=counted.get_total_flops() // 2,
        grouped=any(item.groups > 1 for item in convolutions),
    )
