"""What training is fed: the order of the labels, and what the user's step makes of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tuner.checks.label_order.evidence import LabelOrder
from tuner.checks.tools.frame import before_training, entropy, gathered, keys_of, sample
from tuner.core.streams import derive_seed
from tuner.train.setup import Setup

MOST = 2048  # examples of the epoch that are looked at
ENOUGH_BATCHES, IN_ORDER = 4, 0.8  # batches; rank correlation of their mean label with their place
DRAWS = 200  # batches drawn at random, for the entropy that chance gives


@before_training
def label_order(setup: Setup) -> LabelOrder:
    """Look at the labels of an epoch's first batches as training gets them, against batches drawn at random."""
    data, size = setup.data, setup.spec.tables["train"]["batch_size"]
    batches: list[Tensor] = []
    keys: list[bytes] = []
    for inputs, targets in data.epoch(setup.spec.seed, 1, size, augment=False):
        if len(targets) == size:
            batches.append(targets.cpu())
            keys += keys_of(inputs)
        if len(keys) >= MOST:
            break
    asked = sample(setup, 256, "label_order")
    given = gathered(setup, "train", asked)[1].cpu()
    relabelled = int((given != data.targets("train")[asked]).sum())
    facts: dict[str, Any] = {
        "asked": len(asked),
        "relabelled": relabelled,
        "examples": len(keys),
        "distinct": len(set(keys)),
    }
    known = data.targets("train")
    if len(batches) < 2 or size < 8:
        return LabelOrder(**facts, entropy=None, expected=None, z=None, batches=len(batches))
    observed = [entropy(torch.bincount(b.clamp_min(0))) for b in batches]
    generator = torch.Generator().manual_seed(derive_seed(setup.spec.seed, "probe", "label entropy"))
    drawn = [known[torch.randperm(len(known), generator=generator)[:size]] for _ in range(DRAWS)]
    chance = torch.tensor([entropy(torch.bincount(b.clamp_min(0))) for b in drawn], dtype=torch.double)
    mean = sum(observed) / len(observed)
    error = float(chance.std()) / math.sqrt(len(observed))
    return LabelOrder(
        **facts,
        batches=len(observed),
        entropy=mean,
        expected=float(chance.mean()),
        z=(mean - float(chance.mean())) / max(error, 1e-3 * max(float(chance.mean()), 1e-3)),
        drawn_by_class=_drawn_by_class(batches),
    )


def _drawn_by_class(batches: Sequence[Tensor]) -> bool:
    """Return whether each batch has a few examples of each of some classes, drawn from scratch.

    So do samplers for losses that compare examples. A sorted set has such batches too, one class after the other.
    """
    if len(batches) < ENOUGH_BATCHES:
        return False
    counts = [batch.unique(return_counts=True)[1] for batch in batches]
    if any(len(count) < 2 or int(count.min()) < 2 or int(count.max() - count.min()) > 1 for count in counts):
        return False
    means = torch.stack([batch.double().mean() for batch in batches])
    ranks, places = means.argsort().argsort().double(), torch.arange(len(means)).double()
    return abs(float(torch.corrcoef(torch.stack([ranks, places]))[0, 1])) < IN_ORDER
