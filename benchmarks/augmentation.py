"""Batched augmentation against torchvision's, one example at a time, on the same images and one core.

python -m benchmarks.augmentation [--rounds N]: milliseconds per batch of 128 images of 3x32x32, medians of interleaved
rounds, and how many times faster.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torchvision.transforms import AutoAugmentPolicy, v2

from tuner.recipe.registry import built_ins
from tuner.train.device import keep_freed_memory

SIZE = 128
PAIRS: dict[str, tuple[dict[str, Any], Any]] = {
    "hflip": ({}, v2.RandomHorizontalFlip()),
    "random_crop": ({}, v2.RandomCrop(32, padding=4)),
    "resized_crop": ({}, v2.RandomResizedCrop(32, antialias=False)),
    "color_jitter": ({"saturation": 0.2, "hue": 0.05}, v2.ColorJitter(0.2, 0.2, 0.2, 0.05)),
    "blur": ({"p": 1.0}, v2.GaussianBlur(7, (0.1, 2.0))),
    "erasing": ({}, v2.RandomErasing()),
    "rotate": ({}, v2.RandomRotation(10, interpolation=v2.InterpolationMode.BILINEAR)),
    "affine": ({}, v2.RandomAffine(10, (0.1, 0.1), (0.9, 1.1), 5, interpolation=v2.InterpolationMode.BILINEAR)),
    "randaugment": ({}, v2.RandAugment()),
    "trivialaugment": ({}, v2.TrivialAugmentWide()),
    "autoaugment": ({}, v2.AutoAugment(AutoAugmentPolicy.CIFAR10)),
}


def measured(rounds: int) -> list[tuple[str, float, float, float]]:
    """Return (kind, milliseconds batched, milliseconds one by one, times faster) of each kind."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as every trial does, for both sides
    images = torch.randint(0, 256, (SIZE, 3, 32, 32), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    targets, generator, ours = (
        torch.zeros(SIZE, dtype=torch.int64),
        torch.Generator().manual_seed(0),
        built_ins("augment"),
    )
    rows = []
    for name, (args, transform) in PAIRS.items():
        clocks: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds + 1):
            clocks[0].append(seconds(lambda name=name, args=args: ours[name](images, targets, generator, **args)))
            clocks[1].append(seconds(lambda transform=transform: torch.stack([transform(image) for image in images])))
        batched, single = (1000 * statistics.median(clock[1:]) for clock in clocks)
        rows.append((name, batched, single, single / batched))
    return rows


def seconds(call: Callable[[], Any]) -> float:
    """Return the CPU seconds that a call takes."""
    begun = time.process_time()
    call()
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    for name, batched, single, times in measured(parser.parse_args().rounds):
        print(f"{name:15}  {batched:8.2f} ms  {single:8.2f} ms  {times:6.1f} times")


if __name__ == "__main__":
    main()
