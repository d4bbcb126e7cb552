"""Are the colours of images within their range, or were they cut off at its ends?"""

from __future__ import annotations

from tuner.checks.ends_of_range.evidence import EndsOfRange
from tuner.checks.tools.examples import per_chunk
from tuner.checks.tools.frame import DoesNotApply, of_data_alone, sample
from tuner.train.setup import Setup

MOST = 256


@of_data_alone
def ends_of_range(setup: Setup) -> EndsOfRange:
    """Count values at the ends of the range among coloured pixels, in a sample of train images as loaded.

    Grey pixels are left out: paper is white and ink black by nature, in all channels at once.
    """
    if not setup.data.is_image or setup.data.input_shape[0] < 2:
        raise DoesNotApply("there are no images of several channels: grey ones are black or white by nature")
    images = setup.data.inputs("train", sample(setup, min(MOST, per_chunk(setup.data.input_shape)), "ends"))
    pixels = images.movedim(1, -1).reshape(-1, images.shape[1])
    coloured = pixels[(pixels != pixels[:, :1]).any(1)]
    if not len(coloured):
        raise DoesNotApply("all pixels are grey")
    low, high = images.min(), images.max()
    return EndsOfRange(
        examples=len(images),
        coloured=len(coloured) / len(pixels),
        at_low=float((coloured == low).double().mean()),
        at_high=float((coloured == high).double().mean()),
        levels=len(coloured.unique()),
    )
