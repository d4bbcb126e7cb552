"""Examples of a split as val sees them, for measurements of the data alone; a bounded number is in memory at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tuner.checks.tools.frame import gathered, keys_of, sample
from tuner.train.nested import values_of
from tuner.train.setup import Setup

MOST = 1000  # examples of each split
ENOUGH = 60
AT_ONCE = 1 << 22  # values of inputs that are read at once: 16 MiB in single precision
Way = Callable[[Tensor], Tensor]


def per_chunk(shape: Any) -> int:
    """Return how many inputs of a shape are read at once, at least one."""
    return max(1, AT_ONCE // max(1, values_of(shape)))


def pictured(setup: Setup, split: str, indices: Tensor, *ways: Way) -> tuple[list[Tensor], Tensor]:
    """Return what each way makes of the inputs (CPU, normalised, not augmented), and the targets.

    `ways`: functions of a batch that treat every example by itself, so that the inputs need not be kept.
    """
    made: list[list[Tensor]] = [[] for _ in ways]
    targets: list[Tensor] = []
    for part in indices.split(per_chunk(setup.data.input_shape)):
        inputs, labels = (item.cpu() for item in gathered(setup, split, part))
        targets.append(labels)
        for kept, way in zip(made, ways, strict=True):
            kept.append(way(inputs))
    return [torch.cat(kept) for kept in made], torch.cat(targets)


def different(setup: Setup, split: str, count: int, *ways: Way) -> tuple[list[Tensor], Tensor]:
    """Return the same of at most `count` examples of a split, drawn at random, none of them twice."""
    keys: list[bytes] = []

    def noted(inputs: Tensor) -> Tensor:
        keys.extend(keys_of(inputs))
        return torch.empty(0)

    (_, *made), targets = pictured(setup, split, sample(setup, count, f"splits {split}", split), noted, *ways)
    first = {key: place for place, key in reversed(list(enumerate(keys)))}
    kept = torch.tensor(sorted(first.values()))
    return [item[kept] for item in made], targets[kept]
