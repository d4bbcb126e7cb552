"""Pixels at the end of their range: clipped, or so by nature."""

import numpy as np
from PIL import Image

from tests.zoo import parts
from tests.zoo.case import bug, healthy


def grey(images):
    """Return the mean of the colours, (N, 16, 16), in [0, 1]."""
    return images.astype(np.float32).mean(1) / 255


def read_as_bytes(image, clip):
    """Save a grey image as 16 bits, as microscopes do, and read it as 8."""
    deep = Image.fromarray(np.rint(image * 3000).astype(np.uint16))  # the sensor has 12 bits
    if clip:
        return np.asarray(deep.convert("L"))
    return (np.asarray(deep) // 16).astype(np.uint8)


def sixteen_bits_divided():
    """16-bit images, divided to 8 bits."""
    return tuple(
        (np.stack([read_as_bytes(image, clip=False) for image in grey(images)])[:, None], labels)
        for images, labels in parts.shapes()
    )


@bug(
    "shapes-convbn",
    "data.source",
    causes=["constant-input", "unnormalised-input"],
    step="check-init",
    twin={"data.source": "ranges.py:sixteen_bits_divided"},
    source="https://github.com/python-pillow/Pillow/issues/3011",
)
def sixteen_bits_clipped_to_white():
    """16-bit images are read with convert("L"), which clips at 255: nearly all of them is white."""
    return tuple(
        (np.stack([read_as_bytes(image, clip=True) for image in grey(images)])[:, None], labels)
        for images, labels in parts.shapes()
    )


@healthy("shapes-convbn", "data.source")
def sixteen_bits_divided_by_256():
    """16-bit images, divided to 8 bits."""
    return sixteen_bits_divided()


@bug("shapes-convbn", "data.source", causes=["constant-input", "unnormalised-input"], step="check-init")
def contrast_stretched_before_clipping():
    """A contrast of 6 about the middle is clipped to bytes: most pixels are black or white."""

    def stretched(images):
        return np.clip((images.astype(np.float32) - 60) * 6, 0, 255).astype(np.uint8)

    return tuple((stretched(images), labels) for images, labels in parts.shapes(noise=0.02))


@healthy(
    "digits-conv", "data.source", changes={"data.normalize": "standardize"}, twin={"data.normalize": "standardize"}
)
def ink_that_is_full_or_none():
    """Scanned digits with the contrast of ink: a third of the pixels is black, some are white, by nature."""
    from tests.zoo import arrays

    return tuple(
        (np.clip(images.astype(np.float32) * 1.15, 0, 255).astype(np.uint8), labels)
        for images, labels in arrays.digits()
    )
