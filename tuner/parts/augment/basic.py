"""Flips, shifts, cutout, colours, small turns and noise."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional

from tuner.core.errors import UsageError
from tuner.parts.augment._colour import saturation_and_hue
from tuner.parts.augment._images import Batch, as_loaded
from tuner.parts.augment._images import pixels as pixels_of


def hflip(inputs: Tensor, targets: Tensor, generator: Generator, p: float = 0.5) -> Batch:
    """Mirror each image left to right with probability `p`.

    Source: A. Krizhevsky, I. Sutskever, G. Hinton, ImageNet classification with deep CNNs, 2012.
    """
    return _flipped(inputs, "hflip", generator, p, axis=2), targets


def vflip(inputs: Tensor, targets: Tensor, generator: Generator, p: float = 0.5) -> Batch:
    """Turn each image upside down with probability `p`; for images without an up, such as those of a microscope.

    Source: C. Shorten, T. Khoshgoftaar, A survey on image data augmentation for deep learning, 2019, on flipping.
    """
    return _flipped(inputs, "vflip", generator, p, axis=1), targets


def random_crop(inputs: Tensor, targets: Tensor, generator: Generator, padding: int = 4) -> Batch:
    """Shift each image by up to `padding` pixels either way, with black where it came from outside.

    That is: pad with zeros, then cut a window of the original size. A row of a window is a piece of memory, so the cut
    is one index_select over all windows of one row's length.

    Source: K. He, X. Zhang, S. Ren, J. Sun, Deep residual learning, 2015, section 4.2.
    """
    pixels = pixels_of(inputs, "random_crop")
    n, height, width, channels = pixels.shape
    if not isinstance(padding, int) or padding < 1:
        raise UsageError(f"data.augment random_crop: padding must be a whole number above 0 (got {padding!r})")
    padded = pixels.new_zeros(n, height + 2 * padding, width + 2 * padding, channels)
    padded[:, padding : padding + height, padding : padding + width] = pixels
    device = inputs.device
    offsets = torch.randint(0, 2 * padding + 1, (2, n), generator=generator, device=device)
    rows, columns = height + 2 * padding, width + 2 * padding
    windows = padded.view(-1).as_strided((n * rows * columns - width + 1, width * channels), (channels, 1))
    top = torch.arange(n, device=device) * rows + offsets[0]
    starts = (top[:, None] + torch.arange(height, device=device)) * columns + offsets[1][:, None]
    cut = windows.index_select(0, starts.view(-1))
    return cut.view(n, height, width, channels).permute(0, 3, 1, 2), targets


def cutout(inputs: Tensor, targets: Tensor, generator: Generator, size: int = 8) -> Batch:
    """Blank a square of `size` pixels around a random pixel of each image, with the batch's mean colour.

    The paper blanks with zero after normalisation, which is the mean colour. The square may hang over the edge.

    Source: T. DeVries, G. Taylor, Improved regularization of CNNs with cutout, arXiv:1708.04552, 2017.
    """
    pixels = pixels_of(inputs, "cutout")
    n, height, width, channels = pixels.shape
    if not isinstance(size, int) or not 1 <= size <= max(height, width):
        raise UsageError(
            f"data.augment cutout: size must be a whole number from 1 to {max(height, width)} (got {size!r})"
        )
    device = inputs.device
    centre_y = torch.randint(0, height, (n, 1), generator=generator, device=device)
    centre_x = torch.randint(0, width, (n, 1), generator=generator, device=device)
    from_y = torch.arange(height, device=device) - (centre_y - size // 2)
    from_x = torch.arange(width, device=device) - (centre_x - size // 2)
    inside_y = ((from_y >= 0) & (from_y < size))[:, :, None]
    inside_x = ((from_x >= 0) & (from_x < size)).repeat_interleave(channels, 1)[:, None, :]
    mean = pixels.view(-1, width * channels).float().mean(0).view(width, channels).mean(0)
    fill = (mean if pixels.is_floating_point() else mean.round()).to(pixels.dtype).repeat(width)
    # whole rows, channels beside each other: a mask of one column per value runs four times as fast as a broadcast one
    blanked = torch.where(inside_y & inside_x, fill, pixels.view(n, height, width * channels))
    return blanked.view(n, height, width, channels).permute(0, 3, 1, 2), targets


def color_jitter(
    inputs: Tensor,
    targets: Tensor,
    generator: Generator,
    brightness: float = 0.2,
    contrast: float = 0.2,
    saturation: float = 0.0,
    hue: float = 0.0,
) -> Batch:
    """Multiply each image by a factor from 1 - brightness to 1 + brightness, and its contrast about its mean likewise.

    With `saturation` and `hue` (of a full circle) the colours of RGB bytes move as well. Bytes are rounded and kept in
    0..255; floats are not cut, for their range is not known.

    When: light and camera vary, and colour does not tell the class.
    brightness: 0.05 to 0.5. contrast: 0.05 to 0.5. saturation: 0 to 0.5. hue: 0 to 0.1.

    Source: A. Howard, Some improvements on deep CNN based image classification, arXiv:1312.5402, 2013.
    """
    pixels = pixels_of(inputs, "color_jitter")
    for name, value in (("brightness", brightness), ("contrast", contrast)):
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise UsageError(f"data.augment color_jitter: {name} must be from 0 to 1 (got {value!r})")
    draws = torch.rand(2, len(pixels), 1, 1, 1, generator=generator, device=inputs.device) * 2 - 1
    values = pixels.float() * (1 + brightness * draws[0])
    mean = values.mean((1, 2, 3), keepdim=True)
    values = (values - mean) * (1 + contrast * draws[1]) + mean
    moved = as_loaded(values, pixels.dtype).permute(0, 3, 1, 2)
    if saturation or hue:
        moved = saturation_and_hue(moved, generator, saturation, hue)
    return moved, targets


def rotate(inputs: Tensor, targets: Tensor, generator: Generator, degrees: float = 10.0) -> Batch:
    """Turn each image about its centre by an angle from -degrees to degrees, bilinear, black outside.

    Source: P. Simard, D. Steinkraus, J. Platt, Best practices for CNNs applied to visual document analysis, 2003.
    """
    pixels = pixels_of(inputs, "rotate")
    if not isinstance(degrees, (int, float)) or not 0 < degrees <= 180:
        raise UsageError(f"data.augment rotate: degrees must be above 0, up to 180 (got {degrees!r})")
    n, height, width, _ = pixels.shape
    angle = (torch.rand(n, generator=generator, device=inputs.device) * 2 - 1) * math.radians(degrees)
    cos, sin = angle.cos(), angle.sin()
    zero = torch.zeros_like(cos)
    # affine_grid works in coordinates from -1 to 1 on both sides; a turn of pixels needs the sides' ratio
    first = torch.stack([cos, -sin * height / width, zero], 1)
    second = torch.stack([sin * width / height, cos, zero], 1)
    grid = functional.affine_grid(torch.stack([first, second], 1), list(inputs.shape), align_corners=False)
    values = functional.grid_sample(inputs.float(), grid, align_corners=False)
    return as_loaded(values, inputs.dtype).contiguous(memory_format=torch.channels_last), targets


def gaussian_noise(inputs: Tensor, targets: Tensor, generator: Generator, std: float = 0.1) -> Batch:
    """Add Gaussian noise of `std` times the standard deviation of each channel (or column) over the batch.

    Source: C. Bishop, Training with noise is equivalent to Tikhonov regularization, 1995.
    """
    if not isinstance(std, (int, float)) or not std > 0:
        raise UsageError(f"data.augment gaussian_noise: std must be above 0 (got {std!r})")
    if inputs.dtype not in (torch.uint8, torch.bool) and not inputs.is_floating_point():
        raise UsageError(f"data.augment gaussian_noise: needs real inputs or bytes, the inputs are {inputs.dtype}")
    images = inputs.dim() == 4
    values = (pixels_of(inputs, "gaussian_noise") if images else inputs.contiguous()).float()
    columns = values.view(-1, values.shape[-1]) if images else values
    spread = torch.var_mean(columns, 0, correction=0)[0].sqrt()
    noise = torch.randn(values.shape, generator=generator, device=inputs.device)
    result = as_loaded(values + noise.mul_(std * spread), inputs.dtype)
    return result.permute(0, 3, 1, 2) if images else result, targets


def _flipped(inputs: Tensor, name: str, generator: Generator, p: float, axis: int) -> Tensor:
    pixels = pixels_of(inputs, name)
    if not isinstance(p, (int, float)) or not 0 <= p <= 1:
        raise UsageError(f"data.augment {name}: p must be from 0 to 1 (got {p!r})")
    chosen = (torch.rand(len(pixels), generator=generator, device=inputs.device) < p).nonzero()[:, 0]
    both = torch.cat([pixels, pixels.index_select(0, chosen).flip(axis)])
    source = torch.arange(len(pixels), device=inputs.device)
    source[chosen] = torch.arange(len(pixels), len(both), device=inputs.device)
    return both.index_select(0, source).permute(0, 3, 1, 2)
