"""The sizes of images in train, as augmentation leaves them, and in val."""

from __future__ import annotations

import itertools

from tuner.checks.input_sizes.evidence import InputSizes
from tuner.checks.tools.frame import DoesNotApply, of_data_alone, one_batch
from tuner.train.setup import Setup

BATCHES = 20  # a size of three that each batch draws is missing among as many once in 3,000 times


@of_data_alone
def input_sizes(setup: Setup) -> InputSizes:
    """Look at the shapes of the first batches of an epoch."""
    if not setup.data.is_image or not setup.data.augmentations:
        raise DoesNotApply("images are not augmented")
    if setup.data.size("val") == 0:
        raise DoesNotApply("there is no val split")
    val = tuple(one_batch(setup, 1, "sizes", "val")[0].shape[2:])
    epochs = (setup.data.epoch(setup.spec.seed, epoch, setup.batch_size) for epoch in itertools.count(1))
    batches = itertools.islice(itertools.chain.from_iterable(epochs), BATCHES)
    sizes = [tuple(inputs.shape[2:]) for inputs, _ in batches]
    return InputSizes(val, min(sizes), max(sizes), len(sizes))
