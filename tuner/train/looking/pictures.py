"""PNG pictures: filters of the first layer, feature maps of an example, sample images with their augmentations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn


def grid(images: Sequence[Tensor], columns: int, path: Path, size: int = 48) -> Path:
    """Write images (C, H, W), each stretched to black and white, as a grid of tiles of about `size` pixels."""
    from PIL import Image

    tiles = [_tile(image, size) for image in images]
    height, width = tiles[0].shape[1:]
    rows = -(-len(tiles) // columns)
    sheet = torch.full((3, rows * (height + 2), columns * (width + 2)), 255, dtype=torch.uint8)
    for index, tile in enumerate(tiles):
        top, left = (index // columns) * (height + 2), (index % columns) * (width + 2)
        sheet[:, top : top + height, left : left + width] = tile
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(path)
    return path


def _tile(image: Tensor, size: int) -> Tensor:
    values = image.detach().float().cpu()
    low, high = float(values.min()), float(values.max())
    values = (values - low) / (high - low) if high > low else torch.zeros_like(values)
    values = values if values.shape[0] == 3 else values[:1].expand(3, -1, -1)
    times = max(1, size // max(values.shape[1:]))
    bytes_ = (255 * values).round().to(torch.uint8)
    return bytes_.repeat_interleave(times, 1).repeat_interleave(times, 2)


def filters(model: nn.Module, path: Path) -> Path | None:
    """Write the first convolution's filters; None where the first layer is none, or of other than 1 or 3 channels."""
    first = next((module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))), None)
    if not isinstance(first, nn.Conv2d):
        return None
    weights = first.weight if first.weight.shape[1] in (1, 3) else first.weight[:, :1]
    return grid(list(weights[:64]), 8, path)


@torch.no_grad()
def feature_maps(model: nn.Module, inputs: Tensor, path: Path) -> Path | None:
    """Write what the first convolution makes of up to four examples, a row each: the input, then 15 channels."""
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None or inputs.dim() != 4:
        return None
    kept: list[Tensor] = []
    handle = first.register_forward_hook(lambda module, given, out: kept.append(out))
    model.eval()(inputs[:4])
    handle.remove()
    size = tuple(kept[0].shape[2:])
    shown = nn.functional.interpolate(inputs[:4].float(), size=list(size))
    tiles = []
    for example, maps in zip(shown, kept[0], strict=True):
        row = [example if example.shape[0] in (1, 3) else example[:1], *(one[None] for one in maps[:15])]
        tiles += row + [torch.zeros(1, *size)] * (16 - len(row))
    return grid(tiles, 16, path)
