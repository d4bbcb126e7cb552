"""Are the pixels of an image where they belong? Asked by putting them elsewhere."""

from __future__ import annotations

import torch
from torch import Tensor

from tuner.checks.image_layout.evidence import ImageLayout
from tuner.checks.tools.examples import per_chunk
from tuner.checks.tools.frame import CannotProbe, of_data_alone, sample
from tuner.train.setup import Setup

MOST = 256


@of_data_alone
def image_layout(setup: Setup) -> ImageLayout:
    """Compare how alike neighbouring pixels are as the images come, and with their values read in another order.

    Images of (height, width, channels) that were reshaped to (channels, height, width), not transposed, become smooth
    when the reshape is undone; sound ones become rough. `smooth`: correlation of neighbours within a channel, of
    channels at one place; `undone`: the same with the values read as height, width, channels.
    """
    if not setup.data.is_image or setup.data.input_shape[0] not in (2, 3, 4) or min(setup.data.input_shape[1:]) < 8:
        raise CannotProbe("there are no images of several channels")
    chosen = sample(setup, min(MOST, per_chunk(setup.data.input_shape)), "layout")
    images = setup.data.inputs("train", chosen).float().contiguous()
    channels, high, wide = images.shape[1:]
    undone = images.reshape(-1, high, wide, channels).permute(0, 3, 1, 2)
    return ImageLayout(
        examples=len(images),
        smooth=[_alike(images), _channels_alike(images)],
        undone=[_alike(undone), _channels_alike(undone)],
    )


def _alike(images: Tensor) -> float:
    """Return the mean correlation of pixels with the next one in the row and in the column."""
    pairs = ((images[..., 1:], images[..., :-1]), (images[..., 1:, :], images[..., :-1, :]))
    return sum(_correlation(a, b) for a, b in pairs) / 2


def _channels_alike(images: Tensor) -> float:
    return _correlation(images[:, 1:], images[:, :-1])


def _correlation(a: Tensor, b: Tensor) -> float:
    """Return the correlation within images, so that a bright image is not taken for a smooth one."""
    a, b = ((x - x.mean((1, 2, 3), keepdim=True)).flatten() for x in (a, b))
    size = float(a.norm() * b.norm())
    return float(torch.dot(a, b)) / size if size > 0 else 0.0
