"""Samplers: functions `sampler(targets, generator, **args)` that give the places in train of an epoch's examples.

Adding one is adding a function. An epoch has as many examples as the train split.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from tuner.core.errors import UsageError


def shuffle(targets: Tensor, generator: Generator) -> Tensor:
    """Take every example once, in a random order.

    When: the place to begin.
    Source: the notes on hyperparameters: shuffle the train data before each epoch.
    """
    return torch.randperm(len(targets), generator=generator)


def balanced(targets: Tensor, generator: Generator) -> Tensor:
    """Draw examples with replacement so that every class is drawn equally often.

    When: classes of very different size. With `loss.weight = "balanced"` as well, they are counted twice.
    Source: the notes on competitions, class balance: sampling; torch's WeightedRandomSampler.
    """
    labels = _classes(targets, "balanced")
    weights = 1 / torch.bincount(labels).double()[labels]
    return torch.multinomial(weights, len(labels), replacement=True, generator=generator)


def weighted(targets: Tensor, generator: Generator, weights: Tensor | None = None) -> Tensor:
    """Draw examples with replacement, each as often as its weight says: a column of the table (`data.weights`).

    When: examples are of unequal worth: how sure a label is, how many people a row stands for.
    Source: the notes on competitions, class balance: sampling; torch's WeightedRandomSampler.
    """
    if weights is None:
        raise UsageError(
            "data.sampler: weighted needs a weight for each example, and the data have none",
            'Name the column that holds them: [data] weights = "...", of source = "table".',
        )
    return torch.multinomial(weights, len(targets), replacement=True, generator=generator)


def by_class(targets: Tensor, generator: Generator, per_class: int = 4) -> Tensor:
    """Take every example once, `per_class` of one class after each other, so that a batch holds partners of each.

    When: triplet and center losses.
    per_class: 2 to 16, log.
    Source: A. Hermans et al. 2017, batches of P classes and K examples.
    """
    if not isinstance(per_class, int) or per_class < 2:
        raise UsageError(f"data.sampler.per_class: must be an integer of at least 2 (got {per_class!r})")
    labels = _classes(targets, "by_class")
    order = torch.randperm(len(labels), generator=generator)
    groups: list[Tensor] = []
    for label in labels.unique():
        groups += list(order[labels[order] == label].split(per_class))
    mixed = torch.randperm(len(groups), generator=generator)
    return torch.cat([groups[index] for index in mixed.tolist()])


def _classes(targets: Tensor, name: str) -> Tensor:
    if targets.ndim != 1 or targets.is_floating_point():
        shape = f"{targets.dtype} of shape {tuple(targets.shape)}"
        raise UsageError(f"data.sampler: {name} needs one class per example, the targets are {shape}", "Use shuffle.")
    return targets
