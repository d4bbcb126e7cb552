"""Blur, and parts that are erased."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional

from tuner.parts.augment._images import DENSE, Batch, as_loaded, images, pair, separable, uniform, within

TRIES = 10  # boxes drawn for each example, of which the first that fits is taken, as torchvision does


def blur(
    inputs: Tensor, targets: Tensor, generator: Generator, p: float = 0.5, sigma: Sequence[float] = (0.1, 2.0)
) -> Batch:
    """Blur each image with probability `p` by a Gaussian whose sigma is drawn from a range (pixels); mirrored edges.

    When: sharpness varies between cameras.
    p: 0.1 to 1.
    Source: the notes on hyperparameters, data augmentation: blurring.
    """
    images(inputs, "blur")
    within("blur", "p", p, 0, 1)
    low, high = pair("blur", "sigma", sigma, 0.01, 50)
    n, channels, rows, columns = inputs.shape
    half = min(math.ceil(3 * high), rows - 1, columns - 1)
    wide = uniform((n, 1), low, high, generator)
    chosen = (torch.rand(n, generator=generator, device=inputs.device) < p).nonzero()[:, 0]
    if not len(chosen) or half < 1:
        return inputs, targets
    offsets = torch.arange(-half, half + 1, device=inputs.device)
    kernel = (-0.5 * (offsets / wide[chosen]).square()).exp()
    kernel = kernel / kernel.sum(1, keepdim=True)
    result = inputs.clone()
    if max(rows, columns) <= DENSE:
        down, across = (_mirrored(kernel, side) for side in (rows, columns))
        result[chosen] = separable(inputs[chosen], down, across)
        return result, targets
    kernel = kernel.repeat_interleave(channels, 0)
    values = inputs[chosen].float().reshape(1, -1, rows, columns)
    for shape, padding in (
        ((-1, 1, 1, 2 * half + 1), (half, half, 0, 0)),
        ((-1, 1, 2 * half + 1, 1), (0, 0, half, half)),
    ):
        padded = functional.pad(values, padding, mode="reflect")
        values = functional.conv2d(padded, kernel.view(shape), groups=len(kernel))
    result[chosen] = as_loaded(values.view(-1, channels, rows, columns), inputs.dtype)
    return result, targets


def _mirrored(kernel: Tensor, side: int) -> Tensor:
    """Return kernels (N, K) as matrices (N, side, side) that mirror what lies beyond an edge."""
    half = kernel.shape[1] // 2
    at = (torch.arange(side)[:, None] + torch.arange(-half, half + 1)).abs().to(kernel.device)
    at = torch.where(at >= side, 2 * (side - 1) - at, at)
    matrices = kernel.new_zeros(len(kernel), side, side)
    return matrices.scatter_add_(2, at.expand(len(kernel), -1, -1), kernel[:, None, :].expand(-1, side, -1))


def erasing(
    inputs: Tensor,
    targets: Tensor,
    generator: Generator,
    p: float = 0.5,
    scale: Sequence[float] = (0.02, 0.33),
    ratio: Sequence[float] = (0.3, 3.3),
) -> Batch:
    """Blank a box of a share `scale` of the area and a `ratio` of the sides, with probability `p`, by the mean colour.

    When: objects are partly hidden; small data sets.
    p: 0.1 to 1.
    Source: Z. Zhong et al. 2017, Random Erasing; the lecture, Cutout; the notes, random erasing.
    """
    images(inputs, "erasing")
    within("erasing", "p", p, 0, 1)
    low, high = pair("erasing", "scale", scale, 0.001, 1)
    narrow, wide = pair("erasing", "ratio", ratio, 0.05, 20)
    n, _, rows, columns = inputs.shape
    area = uniform((n, TRIES), low, high, generator) * rows * columns
    shape = uniform((n, TRIES), math.log(narrow), math.log(wide), generator).exp()
    height, width = (area * shape).sqrt().round(), (area / shape).sqrt().round()
    fits = (height < rows) & (width < columns) & (height >= 1) & (width >= 1)
    first = fits.int().argmax(1, keepdim=True)
    height, width = height.gather(1, first)[:, 0], width.gather(1, first)[:, 0]
    top = (uniform((n,), 0, 1, generator) * (rows - height + 1)).floor()
    left = (uniform((n,), 0, 1, generator) * (columns - width + 1)).floor()
    applied = fits.any(1) & (torch.rand(n, generator=generator, device=inputs.device) < p)
    y, x = torch.arange(rows, device=inputs.device), torch.arange(columns, device=inputs.device)
    inside_y = (y >= top[:, None]) & (y < (top + height)[:, None]) & applied[:, None]
    inside_x = (x >= left[:, None]) & (x < (left + width)[:, None])
    box = inside_y[:, :, None] & inside_x[:, None, :]
    pixels = inputs.permute(0, 2, 3, 1).reshape(-1, inputs.shape[1])
    fill = as_loaded(pixels.float().mean(0), inputs.dtype)
    erased = pixels.clone().index_put_((box.view(-1).nonzero()[:, 0],), fill)
    return erased.view(n, rows, columns, -1).permute(0, 3, 1, 2), targets
