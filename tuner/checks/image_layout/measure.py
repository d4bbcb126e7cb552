"""Are the pixels of an image where they belong? Asked by putting them elsewhere."""

from __future__ import annotations

from tuner.checks.image_layout.evidence import ImageLayout
from tuner.checks.tools.examples import per_chunk
from tuner.checks.tools.frame import DoesNotApply, of_data_alone, sample
from tuner.checks.tools.layouts import judgeable, layouts
from tuner.train.setup import Setup

MOST = 256


@of_data_alone
def image_layout(setup: Setup) -> ImageLayout:
    """Compare how alike neighbouring pixels are as the images come, and with their values read in another order.

    Images of (height, width, channels) that were reshaped to (channels, height, width), not transposed, become smooth
    when the reshape is undone; sound ones become rough.
    """
    if not setup.data.is_image or not judgeable(tuple(setup.data.input_shape)):
        raise DoesNotApply("there are no images of several channels")
    chosen = sample(setup, min(MOST, per_chunk(setup.data.input_shape)), "layout")
    return ImageLayout(examples=len(chosen), **layouts(setup.data.inputs("train", chosen)))
