"""What the axes of the images are taken for by the model's first convolution."""

from __future__ import annotations

from torch import nn

from tuner.checks.image_axes.evidence import ImageAxes
from tuner.checks.tools.frame import before_training, forward, fresh_model, one_batch, random_state
from tuner.train.setup import Setup


@before_training
def image_axes(setup: Setup) -> ImageAxes:
    """Run two images through the fresh model and note the channels of the first convolution that they meet."""
    shape = [int(size) for size in setup.data.input_shape] if setup.data.is_image else []
    if not shape:
        return ImageAxes(shape=[])
    inputs, _ = one_batch(setup, 2, "image_axes")
    model, seen = fresh_model(setup).eval(), list[int]()
    hooks = [
        module.register_forward_pre_hook(lambda module, given: seen.append(int(module.in_channels)))
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        with random_state(0):
            forward(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    plain = bool(getattr(setup, "needs_plain_layout", False))
    return ImageAxes(shape=shape, channels=seen[0] if seen else None, plain_layout=plain)
