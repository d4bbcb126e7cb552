"""Learnt and random policies of many operations: each example draws its own, and those that drew alike go together.

The operations and their strengths are torchvision's. Images are bytes of one or three colours.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from tuner.core.errors import UsageError
from tuner.parts.augment import _strengths
from tuner.parts.augment._images import Batch, images, within

LEARNT_BINS = 10  # strengths that AutoAugment's policies were learnt with


def randaugment(inputs: Tensor, targets: Tensor, generator: Generator, num_ops: int = 2, magnitude: int = 9) -> Batch:
    """Apply `num_ops` of 14 operations, drawn for each image, at one strength of 0..30.

    When: a strong policy with two knobs.
    num_ops: 1 to 3. magnitude: 3 to 15.
    Source: E. Cubuk et al. 2019, RandAugment; the lecture, automatic augmentation.
    """
    _whole("randaugment", "num_ops", num_ops, 1, 10)
    _whole("randaugment", "magnitude", magnitude, 0, 30)
    policy = _policy("RandAugment", inputs, "randaugment")
    result = inputs.contiguous().clone()
    names = list(policy._AUGMENTATION_SPACE)
    for _ in range(num_ops):
        chosen = torch.randint(0, len(names), (len(inputs),), generator=generator, device=inputs.device)
        signs = torch.rand(len(inputs), generator=generator, device=inputs.device) < 0.5
        _apply(policy, result, {name: (chosen == index, magnitude) for index, name in enumerate(names)}, signs)
    return result, targets


def trivialaugment(inputs: Tensor, targets: Tensor, generator: Generator) -> Batch:
    """Apply one of 14 operations to each image, at a strength drawn from 31: no knob at all.

    When: a strong policy, and nothing to tune.
    Source: S. Mueller, F. Hutter 2021, TrivialAugment (wide).
    """
    policy = _policy("TrivialAugmentWide", inputs, "trivialaugment")
    result = inputs.contiguous().clone()
    names = list(policy._AUGMENTATION_SPACE)
    chosen = torch.randint(0, len(names), (len(inputs),), generator=generator, device=inputs.device)
    strengths = torch.randint(0, 31, (len(inputs),), generator=generator, device=inputs.device)
    signs = torch.rand(len(inputs), generator=generator, device=inputs.device) < 0.5
    _apply(policy, result, {name: (chosen == index, strengths) for index, name in enumerate(names)}, signs)
    return result, targets


def autoaugment(inputs: Tensor, targets: Tensor, generator: Generator, policy: str = "cifar10") -> Batch:
    """Apply one of 25 learnt pairs of operations to each image; `policy`: cifar10, imagenet or svhn.

    When: images like those of the data set that the policy was learnt on.
    Source: E. Cubuk et al. 2018, AutoAugment; the lecture, automatic augmentation; the notes, AutoAugment.
    """
    if policy not in ("cifar10", "imagenet", "svhn"):
        raise UsageError(f"data.augment autoaugment: policy must be cifar10, imagenet or svhn (got {policy!r})")
    learnt = _policy("AutoAugment", inputs, "autoaugment", policy)
    result = inputs.contiguous().clone()
    n = len(inputs)
    chosen = torch.randint(0, len(learnt._policies), (n,), generator=generator, device=inputs.device)
    draws = torch.rand(2, 2, n, generator=generator, device=inputs.device)
    names, pairs = _pairs(policy)
    drawn, likely, strong = pairs.to(inputs.device)[chosen].permute(2, 1, 0)  # each (2, N)
    for place, (taken, signs) in enumerate(draws):
        acting = torch.where(taken <= likely[place], drawn[place], -1)
        bins = strong[place].long()
        _apply(learnt, result, {name: (acting == index, bins) for index, name in enumerate(names)}, signs < 0.5)
    return result, targets


@functools.cache
def _pairs(learnt_on: str) -> tuple[tuple[str, ...], Tensor]:
    """Return the names of the operations, and the learnt pairs: (pairs, 2, [which operation, how likely, its bin])."""
    policies = _library("AutoAugment", learnt_on)._policies
    names = tuple(sorted({name for pair in policies for name, _, _ in pair}))
    rows = [[[names.index(name), likely, strong or 0] for name, likely, strong in pair] for pair in policies]
    return names, torch.tensor(rows)


def _policy(kind: str, inputs: Tensor, name: str, learnt_on: str = "") -> Any:
    images(inputs, name)
    if inputs.dtype != torch.uint8 or inputs.shape[1] not in (1, 3):
        found = f"{inputs.shape[1]} channels of {inputs.dtype}"
        raise UsageError(f"data.augment {name}: needs bytes of 1 or 3 colours, the inputs have {found}", "Remove it.")
    return _library(kind, learnt_on)


@functools.cache
def _library(kind: str, learnt_on: str = "") -> Any:
    """Return torchvision's transform, whose operations and strengths these are."""
    from torchvision.transforms import AutoAugmentPolicy, v2

    return getattr(v2, kind)(AutoAugmentPolicy(learnt_on)) if learnt_on else getattr(v2, kind)()


Asked = Mapping[str, tuple[Tensor, Tensor | int]]  # operation -> which images take it (N,) bool, bins of its strength


def _apply(policy: Any, images: Tensor, asked: Asked, signs: Tensor) -> None:
    """Apply to each image the operation that it takes, if any, in place; those that move pixels all at once.

    The bins are (N,), or one for all; `signs`: (N,) bool, where a strength is taken negative if the operation has a
    sign.
    """
    taken = {name: (members.nonzero()[:, 0], bins) for name, (members, bins) in asked.items() if name != "Identity"}
    strengths = {name: _strength(policy, name, rows, bins, signs, images) for name, (rows, bins) in taken.items()}
    moving = [name for name in _strengths.GEOMETRIC if name in taken and len(taken[name][0])]
    for name, (rows, _) in taken.items():
        if name not in _strengths.GEOMETRIC and len(rows):
            images[rows] = _strengths.apply(images[rows], name, strengths[name])
    if moving:
        rows = torch.cat([taken[name][0] for name in moving])
        images[rows] = _strengths.moved(images[rows], {name: strengths[name] for name in moving})


def _strength(policy: Any, name: str, rows: Tensor, bins: Tensor | int, signs: Tensor, images: Tensor) -> Tensor:
    """Return the strength of an operation for each of the rows, with its sign; 0 where it has none."""
    strengths, signed = policy._AUGMENTATION_SPACE[name]
    scale = strengths(getattr(policy, "num_magnitude_bins", LEARNT_BINS), *images.shape[2:])
    if scale is None or scale.ndim == 0:
        return torch.zeros(len(rows), device=images.device)
    own = bins[rows] if isinstance(bins, Tensor) else torch.full_like(rows, bins)
    strength = scale.to(images.device, torch.float32)[own]
    return torch.where(signs[rows], -strength, strength) if signed else strength


def _whole(name: str, key: str, value: Any, low: int, high: int) -> None:
    """Check that an argument is a whole number from low to high."""
    within(name, key, value, low, high)
    if not isinstance(value, int):
        raise UsageError(f"data.augment {name}: {key} must be a whole number (got {value!r})")
