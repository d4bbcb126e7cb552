"""Batches of images: how they lie in memory, how boxes and maps are cut out of them, and what an argument may be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional

from tuner.core.errors import UsageError

Batch = tuple[Tensor, Tensor]
DENSE = 96  # pixels a side, up to which matrices of that size are faster than looking pixels up


def images(inputs: Tensor, name: str) -> Tensor:
    """Return the inputs, which must be a batch of images (N, C, H, W)."""
    if inputs.dim() != 4:
        raise UsageError(
            f"data.augment {name}: needs images (C, H, W), the inputs have shape {tuple(inputs.shape[1:])}",
            f"Remove {name} from data.augment.",
        )
    return inputs


def pixels(inputs: Tensor, name: str) -> Tensor:
    """Return a batch of images as contiguous (N, H, W, C)."""
    return images(inputs, name).permute(0, 2, 3, 1).contiguous()


def as_loaded(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Return values as they were loaded: bytes are rounded, in place, and kept in 0..255."""
    return values.round_().clamp_(0, 255).to(dtype) if dtype == torch.uint8 else values.to(dtype)


def within(name: str, key: str, value: Any, low: float, high: float) -> None:
    """Check that an argument is a number from low to high.

    Raises:
        UsageError: "must be from ... to ...".
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise UsageError(f"data.augment {name}: {key} must be from {low:g} to {high:g} (got {value!r})")


def pair(name: str, key: str, value: Any, low: float, high: float) -> tuple[float, float]:
    """Check that an argument is two rising numbers from low to high, and return them."""
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not value[0] <= value[1]:
        raise UsageError(f"data.augment {name}: {key} must be two rising numbers (got {value!r})")
    for item in value:
        within(name, key, item, low, high)
    return float(value[0]), float(value[1])


def uniform(shape: tuple[int, ...], low: float, high: float, generator: Generator) -> Tensor:
    """Draw from low..high on the generator's device."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def beta(n: int, alpha: float, generator: Generator) -> Tensor:
    """Draw n values of Beta(alpha, alpha), as float64 (small alphas give gammas near 0)."""
    shape = torch.full((2, n), float(alpha), dtype=torch.float64, device=generator.device)
    gamma = torch._standard_gamma(shape, generator=generator).clamp(min=1e-300)
    return gamma[0] / gamma.sum(0)


def cut_boxes(inputs: Tensor, left: Tensor, top: Tensor, width: Tensor, height: Tensor) -> Tensor:
    """Return what lies in each example's box, resized bilinearly to the size of the image.

    The four are in pixels, of shape (N,). The same as torchvision's resized_crop without antialiasing.
    """
    _, _, rows, columns = inputs.shape
    x = _places(left, width, columns)
    y = _places(top, height, rows)
    if max(rows, columns) <= DENSE:
        return separable(inputs, _between(y, rows), _between(x, columns))
    grid = torch.stack(
        [
            (2 * x[:, None, :].expand(-1, rows, -1) + 1) / columns - 1,
            (2 * y[:, :, None].expand(-1, -1, columns) + 1) / rows - 1,
        ],
        dim=3,
    )
    return _sampled(inputs, grid)


def separable(inputs: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Return `down` times each image times the transpose of `across`, colour by colour: (N, H, H) and (N, W, W).

    For small images two matrix products take a third of the time of looking each pixel up.
    """
    n, channels, rows, columns = inputs.shape
    values = inputs.permute(0, 2, 3, 1).float().reshape(n, rows, columns * channels)
    turned = torch.bmm(values.transpose(1, 2), down.transpose(1, 2)).view(n, columns, channels * rows)
    values = torch.bmm(across, turned).view(n, columns, channels, rows)
    return as_loaded(values, inputs.dtype).permute(0, 2, 3, 1).contiguous(memory_format=torch.channels_last)


def _between(places: Tensor, count: int) -> Tensor:
    """Return the matrices (N, count, count) that interpolate between the two pixels next to each place."""
    below = places.floor()
    share = (places - below)[:, :, None]
    first = below.long().clamp(0, count - 1)[:, :, None]
    weights = places.new_zeros(*places.shape, count).scatter_(2, first, 1 - share)
    return weights.scatter_add_(2, (first + 1).clamp(max=count - 1), share)


def _places(start: Tensor, length: Tensor, count: int) -> Tensor:
    at = (torch.arange(count, device=start.device) + 0.5) * (length / count)[:, None] - 0.5
    return start[:, None] + torch.minimum(at.clamp(min=0), (length - 1).clamp(min=0)[:, None])


def mapped(inputs: Tensor, matrix: Tensor, mode: str = "bilinear") -> Tensor:
    """Return each image under the map that takes places of the result to places of the image, black outside.

    matrix: (N, 2, 3), in pixels from the image's centre. `mode`: bilinear or nearest.
    """
    _, _, rows, columns = inputs.shape
    if mode == "nearest":
        return _nearest(inputs, matrix)
    sides = torch.tensor([columns / 2, rows / 2], device=inputs.device)
    scaled = matrix.clone()
    scaled[:, :, :2] = matrix[:, :, :2] * sides[None, None, :] / sides[None, :, None]
    scaled[:, :, 2] = matrix[:, :, 2] / sides
    grid = functional.affine_grid(scaled.float(), list(inputs.shape), align_corners=False)
    return _sampled(inputs, grid)


def _nearest(inputs: Tensor, matrix: Tensor) -> Tensor:
    """Return the nearest pixel of each place: a pixel with its colours is one piece of memory."""
    n, channels, rows, columns = inputs.shape
    device = inputs.device
    x = torch.arange(columns, device=device) - (columns - 1) / 2
    y = torch.arange(rows, device=device)[:, None] - (rows - 1) / 2
    (a, b, c), (d, e, f) = matrix.permute(1, 2, 0)[..., None, None]
    across = ((a * x + (c + (columns - 1) / 2)) + b * y).round_().clamp_(-1, columns)
    down = ((e * y + (f + (rows - 1) / 2)) + d * x).round_().clamp_(-1, rows)
    framed = functional.pad(inputs.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))  # in black
    first = torch.arange(n, device=device)[:, None, None] * ((rows + 2) * (columns + 2)) + columns + 3
    places = down.mul_(columns + 2).add_(across).long().add_(first)
    taken = framed.reshape(-1, channels).index_select(0, places.view(-1))
    return taken.view(n, rows, columns, channels).permute(0, 3, 1, 2)


def _sampled(inputs: Tensor, grid: Tensor) -> Tensor:
    values = functional.grid_sample(inputs.float().contiguous(), grid, align_corners=False)
    return as_loaded(values, inputs.dtype).contiguous(memory_format=torch.channels_last)
