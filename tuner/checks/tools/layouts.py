"""How smooth images are as they come, and with their values read in another order."""

from __future__ import annotations

from torch import Tensor

COLOURS = (2, 3, 4)  # channels of images that could have been reshaped
LEAST_SIDE = 8


def judgeable(shape: tuple[int, ...]) -> bool:
    """Return whether images (channels, height, width) have several channels and sides that show smoothness."""
    return len(shape) == 3 and shape[0] in COLOURS and min(shape[1:]) >= LEAST_SIDE


def layouts(images: Tensor) -> dict[str, list[float]]:
    """Return `smooth` and `undone`, each [correlation of neighbouring pixels, of channels], of (N, C, H, W) images.

    `undone`: with the values read as height, width, channels, which undoes a reshape in place of a transpose.
    """
    images = images.float().contiguous()
    channels, high, wide = images.shape[1:]
    undone = images.reshape(-1, high, wide, channels).permute(0, 3, 1, 2)
    return {name: [_pixels(x), _channels(x)] for name, x in (("smooth", images), ("undone", undone))}


def _pixels(images: Tensor) -> float:
    """Return the mean correlation of pixels with the next one in the row and in the column."""
    pairs = ((images[..., 1:], images[..., :-1]), (images[..., 1:, :], images[..., :-1, :]))
    return sum(_correlation(a, b) for a, b in pairs) / 2


def _channels(images: Tensor) -> float:
    return _correlation(images[:, 1:], images[:, :-1])


def _correlation(a: Tensor, b: Tensor) -> float:
    """Return the correlation within images, so that a bright image is not taken for a smooth one."""
    a, b = ((x - x.mean((1, 2, 3), keepdim=True)).flatten() for x in (a, b))
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size > 0 else 0.0
