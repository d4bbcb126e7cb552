"""Learnt and random policies of many operations: each example draws its own, and those that drew alike go together.

The operations and their strengths are torchvision's. Images are bytes of one or three colours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from tuner.core.errors import UsageError
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
        for index, name in enumerate(names):
            _apply(policy, result, chosen == index, name, signs, magnitude)
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
    for index, name in enumerate(names):
        members = chosen == index
        scale = policy._AUGMENTATION_SPACE[name][0](31, *inputs.shape[2:])
        flat = scale is None or scale.ndim == 0
        for strength in [0] if flat else strengths[members].unique().tolist():
            same = members if flat else members & (strengths == strength)
            _apply(policy, result, same, name, signs, strength)
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
    for index, pair in enumerate(learnt._policies):
        members = chosen == index
        draws = torch.rand(2, 2, n, generator=generator, device=inputs.device)
        for (name, probability, strength), (taken, signs) in zip(pair, draws, strict=True):
            _apply(learnt, result, members & (taken <= probability), name, signs < 0.5, strength)
    return result, targets


def _policy(kind: str, inputs: Tensor, name: str, learnt_on: str = "") -> Any:
    from torchvision.transforms import AutoAugmentPolicy, v2

    images(inputs, name)
    if inputs.dtype != torch.uint8 or inputs.shape[1] not in (1, 3):
        found = f"{inputs.shape[1]} channels of {inputs.dtype}"
        raise UsageError(f"data.augment {name}: needs bytes of 1 or 3 colours, the inputs have {found}", "Remove it.")
    return getattr(v2, kind)(AutoAugmentPolicy(learnt_on)) if learnt_on else getattr(v2, kind)()


def _apply(policy: Any, images: Tensor, members: Tensor, name: str, signs: Tensor, strength: int | None) -> None:
    """Apply one operation to the images that are its members, in place; those of each sign go together."""
    strengths, signed = policy._AUGMENTATION_SPACE[name]
    scale = strengths(getattr(policy, "num_magnitude_bins", LEARNT_BINS), *images.shape[2:])
    value = float(scale[strength]) if scale is not None and scale.ndim > 0 and strength is not None else 0.0
    for negative in (False, True) if signed else (False,):
        rows = (members & (signs == negative) if signed else members).nonzero()[:, 0]
        if len(rows):
            moved = policy._apply_image_or_video_transform(
                images[rows], name, -value if negative else value, interpolation=policy.interpolation, fill=policy._fill
            )
            images[rows] = moved


def _whole(name: str, key: str, value: Any, low: int, high: int) -> None:
    """Check that an argument is a whole number from low to high."""
    within(name, key, value, low, high)
    if not isinstance(value, int):
        raise UsageError(f"data.augment {name}: {key} must be a whole number (got {value!r})")
