"""The operations of learnt and random policies, on many images at once, each at a strength of its own.

They are torchvision's, down to the rounding; images are bytes (N, C, H, W), strengths (N,) float with their sign.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from tuner.parts.augment._images import mapped


def apply(images: Tensor, name: str, strength: Tensor) -> Tensor:
    """Return the images under the operation that torchvision's policies call by that name."""
    return moved(images, {name: strength}) if name in GEOMETRIC else OPERATIONS[name](images, strength)


def moved(images: Tensor, strengths: Mapping[str, Tensor]) -> Tensor:
    """Shear, shift or turn images, nearest pixel, black outside: as many of them as strengths, in their order."""
    matrices = [_matrix(name, images, strength) for name, strength in strengths.items()]
    return mapped(images, torch.cat(matrices), "nearest")


def _matrix(name: str, images: Tensor, strength: Tensor) -> Tensor:
    """Return the maps (N, 2, 3) from places of the result to places of the image, about where torchvision takes it."""
    rows, columns = images.shape[2:]
    one, zero = torch.ones_like(strength), torch.zeros_like(strength)
    if name == "Rotate":
        cos, sin = strength.deg2rad().cos(), strength.deg2rad().sin()
        entries = [[cos, -sin, zero], [sin, cos, zero]]
    elif name == "ShearX":
        entries = [[one, strength, strength * rows / 2], [zero, one, zero]]
    elif name == "ShearY":
        entries = [[one, zero, zero], [strength, one, strength * columns / 2]]
    elif name == "TranslateX":
        entries = [[one, zero, -strength.trunc()], [zero, one, zero]]
    else:
        entries = [[one, zero, zero], [zero, one, -strength.trunc()]]
    return torch.stack([torch.stack(row, 1) for row in entries], 1)


def _blended(images: Tensor, other: Tensor, strength: Tensor) -> Tensor:
    factor = (1 + strength)[:, None, None, None]
    return (images * factor + other * (1 - factor)).clamp_(0, 255).to(images.dtype)


def _brightness(images: Tensor, strength: Tensor) -> Tensor:
    return (images * (1 + strength)[:, None, None, None]).clamp_(0, 255).to(images.dtype)


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images.float()
    weights = torch.tensor([0.2989, 0.587, 0.114], device=images.device)[:, None, None]
    return (images * weights).sum(1, keepdim=True).floor_()


def _color(images: Tensor, strength: Tensor) -> Tensor:
    return images if images.shape[1] == 1 else _blended(images, _grey(images), strength)


def _contrast(images: Tensor, strength: Tensor) -> Tensor:
    return _blended(images, _grey(images).mean((1, 2, 3), keepdim=True), strength)


def _sharpness(images: Tensor, strength: Tensor) -> Tensor:
    if min(images.shape[2:]) <= 2:
        return images
    values = images.float()
    sums = functional.avg_pool2d(values, 3, stride=1) * 9 + 4 * values[:, :, 1:-1, 1:-1]
    smooth = values.clone()
    smooth[:, :, 1:-1, 1:-1] = (sums / 13).round_()
    return _blended(images, smooth, strength)


def _posterize(images: Tensor, strength: Tensor) -> Tensor:
    kept = 8 - strength.trunc().to(torch.int64).clamp(0, 8)
    masks = torch.bitwise_left_shift(torch.full_like(kept, 255), kept) & 255
    return images & masks.to(torch.uint8)[:, None, None, None]


def _solarize(images: Tensor, strength: Tensor) -> Tensor:
    threshold = (255 * strength)[:, None, None, None]
    return torch.where(images >= threshold, 255 - images, images)


def _autocontrast(images: Tensor, strength: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional as library

    return library.autocontrast(images)


def _equalize(images: Tensor, strength: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional as library

    return library.equalize(images)


GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Identity": lambda images, strength: images,
    "Brightness": _brightness,
    "Color": _color,
    "Contrast": _contrast,
    "Sharpness": _sharpness,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "AutoContrast": _autocontrast,
    "Equalize": _equalize,
    "Invert": lambda images, strength: 255 - images,
}
