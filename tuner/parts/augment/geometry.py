"""Turns, crops, maps and sizes of images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional

from tuner.core.errors import UsageError
from tuner.parts.augment._images import Batch, as_loaded, cut_boxes, images, mapped, pair, uniform, within


def quarter_turn(inputs: Tensor, targets: Tensor, generator: Generator) -> Batch:
    """Turn each image by 0, 90, 180 or 270 degrees.

    When: images without an up (microscopes, satellites); not digits or scenes.
    Source: the notes on hyperparameters, data augmentation: rotation by 90, 180, 270 degrees.
    """
    images(inputs, "quarter_turn")
    if inputs.shape[2] != inputs.shape[3]:
        shape = tuple(inputs.shape[1:])
        raise UsageError(
            f"data.augment quarter_turn: needs square images, they have shape {shape}", "Use hflip, vflip."
        )
    turns = torch.randint(0, 4, (len(inputs),), generator=generator, device=inputs.device)
    result = inputs.clone()
    for k in (1, 2, 3):
        chosen = (turns == k).nonzero()[:, 0]
        result[chosen] = inputs[chosen].rot90(k, (2, 3))
    return result, targets


def resized_crop(
    inputs: Tensor,
    targets: Tensor,
    generator: Generator,
    scale: Sequence[float] = (0.08, 1.0),
    ratio: Sequence[float] = (0.75, 1.3333),
) -> Batch:
    """Cut a box of a share `scale` of the area and a `ratio` of the sides out of each image, and resize it back.

    When: objects of any size in photographs. On 32-pixel images begin the scale at 0.4 or more.
    Source: C. Szegedy et al. 2015; the lecture, random crops and scales; the notes, random crop and resize.
    """
    images(inputs, "resized_crop")
    low, high = pair("resized_crop", "scale", scale, 0.001, 1)
    narrow, wide = pair("resized_crop", "ratio", ratio, 0.1, 10)
    n, _, rows, columns = inputs.shape
    area = uniform((n,), low, high, generator) * rows * columns
    shape = uniform((n,), math.log(narrow), math.log(wide), generator).exp()
    width = (area * shape).sqrt().round().clamp(1, columns)
    height = (area / shape).sqrt().round().clamp(1, rows)
    left = (uniform((n,), 0, 1, generator) * (columns - width + 1)).floor()
    top = (uniform((n,), 0, 1, generator) * (rows - height + 1)).floor()
    return cut_boxes(inputs, left, top, width, height), targets


def center_crop(inputs: Tensor, targets: Tensor, generator: Generator, share: float = 0.875) -> Batch:
    """Cut the central `share` of each side out, and resize it back: the same for every example.

    When: objects lie in the middle and the border tells nothing; then crop val alike, with a source of your own.
    share: 0.5 to 1.
    Source: the notes on competitions, centre crop and resize.
    """
    images(inputs, "center_crop")
    within("center_crop", "share", share, 0.01, 1)
    n, _, rows, columns = inputs.shape
    height, width = max(1, round(share * rows)), max(1, round(share * columns))
    box = torch.tensor([(columns - width) // 2, (rows - height) // 2, width, height], device=inputs.device).float()
    return cut_boxes(inputs, *(value.expand(n) for value in box)), targets


def affine(
    inputs: Tensor,
    targets: Tensor,
    generator: Generator,
    degrees: float = 10.0,
    translate: float = 0.1,
    scale: Sequence[float] = (0.9, 1.1),
    shear: float = 5.0,
) -> Batch:
    """Turn, shift, scale and shear each image about its centre, bilinear, black outside.

    The angle is from -degrees to degrees, the shift up to `translate` of each side, the shear up to `shear` degrees.

    When: handwriting and objects seen from changing places.
    degrees: 0 to 45. translate: 0 to 0.3. shear: 0 to 20.
    Source: P. Simard, D. Steinkraus, J. Platt 2003; the lecture, data augmentation.
    """
    images(inputs, "affine")
    for key, value, most in (("degrees", degrees, 180), ("translate", translate, 1), ("shear", shear, 80)):
        within("affine", key, value, 0, most)
    low, high = pair("affine", "scale", scale, 0.01, 100)
    n, _, rows, columns = inputs.shape
    angle = uniform((n,), -degrees, degrees, generator).deg2rad()
    slant = uniform((n,), -shear, shear, generator).deg2rad().tan()
    size = uniform((n,), low, high, generator)
    shift_x = uniform((n,), -translate, translate, generator) * columns
    shift_y = uniform((n,), -translate, translate, generator) * rows
    # the image is sheared, scaled, turned, then shifted; the result is looked up through the inverse
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    one, zero = torch.ones_like(slant), torch.zeros_like(slant)
    sheared = torch.stack([torch.stack([one, -slant], 1), torch.stack([zero, one], 1)], 1)
    inverse = torch.linalg.inv(size[:, None, None] * turn @ sheared)
    shift = torch.stack([shift_x, shift_y], 1)[:, :, None]
    return mapped(inputs, torch.cat([inverse, -inverse @ shift], 2)), targets


def multi_scale(
    inputs: Tensor, targets: Tensor, generator: Generator, factors: Sequence[float] = (0.75, 1.0, 1.25)
) -> Batch:
    """Resize the whole batch to one of `factors` times its size: a size per batch, for nets that take any size.

    Val is evaluated at the size of the data. When: objects of changing size, with global pooling before the head.
    Source: the notes on competitions, multi-scale training.
    """
    images(inputs, "multi_scale")
    if not isinstance(factors, (list, tuple)) or not factors:
        raise UsageError(f"data.augment multi_scale: factors must be a list of numbers (got {factors!r})")
    for item in factors:
        within("multi_scale", "factors", item, 0.1, 10)
    drawn = factors[int(torch.randint(0, len(factors), (), generator=generator, device=generator.device))]
    size = [max(1, round(drawn * side)) for side in inputs.shape[2:]]
    if size == list(inputs.shape[2:]):
        return inputs, targets
    values = functional.interpolate(inputs.float(), size, mode="bilinear", antialias=True)
    return as_loaded(values, inputs.dtype).contiguous(memory_format=torch.channels_last), targets


multi_scale.resizes = True  # type: ignore[attr-defined]  # its batches need not have the data's size
