"""Batched augmentation against torchvision's, one example at a time, on the same images and one core.

python -m benchmarks.augmentation [--rounds N] [--device cuda]: milliseconds per batch of 128 images of 3x32x32, medians
of interleaved rounds, and how many times faster. On a GPU the batch is there already, as a trial's is; torchvision's
images are on the CPU, as a Dataset's are.
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


def measured(rounds: int, device: str) -> list[tuple[str, float, float, float]]:
    """Return (kind, milliseconds batched, milliseconds one by one, times faster) of each kind."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as every trial does, for both sides
    images = torch.randint(0, 256, (SIZE, 3, 32, 32), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    batch, targets = images.to(device), torch.zeros(SIZE, dtype=torch.int64, device=device)
    generator, ours = torch.Generator(device).manual_seed(0), built_ins("augment")
    rows = []
    for name, (args, transform) in PAIRS.items():
        clocks: tuple[list[float], list[float]] = ([], [])
        sides = (
            lambda name=name, args=args: ours[name](batch, targets, generator, **args),
            lambda transform=transform: torch.stack([transform(image) for image in images]),
        )
        for _ in range(rounds + 1):
            for clock, side in zip(clocks, sides, strict=True):
                clock.append(seconds(side, device))
        batched, single = (1000 * statistics.median(clock[1:]) for clock in clocks)
        rows.append((name, batched, single, single / batched))
    return rows


def seconds(call: Callable[[], Any], device: str) -> float:
    """Return the seconds that a call takes: of the CPU, or on a GPU by the clock, to the end of its work."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    begun = clock()
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    for name, batched, single, times in measured(options.rounds, options.device):
        print(f"{name:15}  {batched:8.2f} ms  {single:8.2f} ms  {times:6.1f} times")


if __name__ == "__main__":
    main()
