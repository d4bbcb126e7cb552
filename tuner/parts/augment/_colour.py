"""Saturation and hue of RGB images."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from tuner.core.errors import UsageError
from tuner.parts.augment._images import as_loaded, images, uniform, within


def saturation_and_hue(inputs: Tensor, generator: Generator, saturation: float, hue: float) -> Tensor:
    """Multiply each image's saturation by 1 - saturation to 1 + saturation, and turn its hue by up to `hue`."""
    images(inputs, "color_jitter")
    if inputs.shape[1] != 3 or inputs.dtype != torch.uint8:
        found = f"{inputs.shape[1]} channels of {inputs.dtype}"
        text = f"data.augment color_jitter: saturation and hue need RGB bytes, the inputs have {found}"
        raise UsageError(text, "Leave saturation and hue out.")
    within("color_jitter", "saturation", saturation, 0, 1)
    within("color_jitter", "hue", hue, 0, 0.5)
    n = len(inputs)
    values = inputs.float() / 255
    factor = uniform((n, 1, 1, 1), 1 - saturation, 1 + saturation, generator)
    weights = torch.tensor([0.2989, 0.587, 0.114], device=values.device)[:, None, None]
    values = (factor * values + (1 - factor) * (values * weights).sum(1, keepdim=True)).clamp(0, 1)
    if hue > 0:
        values = _turned(values, uniform((n, 1, 1), -hue, hue, generator))
    return as_loaded(values * 255, inputs.dtype)


def _turned(rgb: Tensor, by: Tensor) -> Tensor:
    """Turn the hue of RGB images (0..1) by a share of the circle, saturation and value kept."""
    largest, smallest = rgb.amax(1), rgb.amin(1)
    spread = largest - smallest
    safe = torch.where(spread > 0, spread, 1.0)
    red, green, blue = rgb.unbind(1)
    sector = torch.where(
        largest == red,
        (green - blue) / safe,
        torch.where(largest == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = (sector / 6 + by) % 1.0
    shifts = torch.tensor([5.0, 3.0, 1.0], device=rgb.device)[None, :, None, None]
    k = (shifts + 6 * hue[:, None]) % 6
    return largest[:, None] - spread[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)
