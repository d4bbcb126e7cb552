"""What the axes of the images are taken for by the model's first convolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tuner.checks.image_axes.evidence import ImageAxes
from tuner.checks.tools.cost import affordable
from tuner.checks.tools.frame import before_training, forward, fresh_model, one_batch, random_state
from tuner.checks.tools.layouts import judgeable, layouts
from tuner.train.setup import Setup

IMAGES = 64


@before_training
def image_axes(setup: Setup) -> ImageAxes:
    """Run images through the fresh model and note the channels of the first convolution, and what it is given."""
    shape = [int(size) for size in setup.data.input_shape] if setup.data.is_image else []
    if not shape:
        return ImageAxes(shape=[])
    inputs, _ = one_batch(setup, affordable(setup, IMAGES), "image_axes")
    model, seen = fresh_model(setup).eval(), list[tuple[int, Any]]()

    def look(module: nn.Conv2d, given: tuple[Any, ...]) -> None:
        if not seen:
            seen.append((int(module.in_channels), given[0].detach() if isinstance(given[0], Tensor) else None))

    hooks = [module.register_forward_pre_hook(look) for module in model.modules() if isinstance(module, nn.Conv2d)]
    try:
        with random_state(0):
            forward(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    plain = bool(getattr(setup, "needs_plain_layout", False))
    channels, given = seen[0] if seen else (None, None)
    given = inputs if given is None else given
    changed = given.shape == inputs.shape and not torch.equal(given, inputs)
    measured = layouts(given) if changed and judgeable(tuple(shape)) else {}
    return ImageAxes(shape=shape, channels=channels, plain_layout=plain, **measured)
