"""The first examples of an epoch with and without augmentation, a batch at a time: whole images are not kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from torch import Tensor

from tuner.checks.tools.frame import CannotProbe
from tuner.train.setup import Setup

MOST = 1024  # examples
ENOUGH = 60  # of them, for a classifier

Pair = tuple[Tensor, Tensor, Tensor, Tensor]


def pairs(setup: Setup) -> Iterator[Pair]:
    """Give clean inputs and their labels, then the augmented ones: the same examples in the same order.

    Raises:
        CannotProbe: "two reads of one example differ".
    """
    if setup.data.stochastic:
        raise CannotProbe("two reads of one example differ, so augmented inputs cannot be held against clean ones")
    size = setup.spec.tables["train"]["batch_size"]
    epochs = [setup.data.epoch(setup.spec.seed, 1, size, augment=augment) for augment in (False, True)]
    for (inputs, targets), (augmented, labels) in itertools.islice(zip(*epochs, strict=True), max(1, MOST // size)):
        yield inputs.detach().cpu(), targets.detach().cpu(), augmented.detach().cpu(), labels.detach().cpu()
