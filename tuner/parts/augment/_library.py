"""Transforms of torchvision and albumentations, by dotted path: one example at a time, so slower than the built-ins."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

PER_EXAMPLE = ("torchvision", "albumentations")


def per_example(transform: Any, library: str) -> Callable[[Tensor, Tensor, Generator], tuple[Tensor, Tensor]]:
    """Return the function of a batch that applies a library's transform to each image under a seed of its own.

    The seed is drawn from the batch's generator, so that the same epoch gives the same images.
    """

    def augment(inputs: Tensor, targets: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        seed = int(torch.randint(0, 2**31, (), generator=generator, device=generator.device))
        state = random.getstate(), np.random.get_state()
        with torch.random.fork_rng(devices=[inputs.device] if inputs.is_cuda else []):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)
            if hasattr(transform, "set_random_seed"):
                transform.set_random_seed(seed)
            moved = [_numpy(transform, image) if library == "albumentations" else transform(image) for image in inputs]
        random.setstate(state[0])
        np.random.set_state(state[1])
        return torch.stack(moved), targets

    return augment


def _numpy(transform: Any, image: Tensor) -> Tensor:
    moved = transform(image=np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()))["image"]
    return torch.from_numpy(np.ascontiguousarray(moved)).permute(2, 0, 1).to(image.device)
