"""Do train and val come from one place, and do the labels belong to their inputs? Asked of the data alone."""

from __future__ import annotations

import torch

from tuner.checks.tools.frame import Batch, keys_of, one_batch
from tuner.train.setup import Setup

MOST = 1000  # examples of each split


ENOUGH = 60


def _examples(setup: Setup, split: str, count: int = MOST) -> Batch:
    """Return different examples of a split as val sees them: normalised, not augmented, none twice."""
    inputs, targets = (part.cpu() for part in one_batch(setup, count, f"splits {split}", split))
    first = {key: place for place, key in reversed(list(enumerate(keys_of(inputs))))}
    kept = torch.tensor(sorted(first.values()))
    return inputs[kept], targets[kept]
