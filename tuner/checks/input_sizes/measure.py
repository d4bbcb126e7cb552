"""The sizes of images in train, as augmentation leaves them, and in val."""

from __future__ import annotations

import itertools

from torch import Tensor

from tuner.checks.input_sizes.evidence import InputSizes
from tuner.checks.tools.frame import DoesNotApply, of_data_alone, one_batch
from tuner.train.setup import Setup

BATCHES = 20  # a size of three that each batch draws is missing among as many once in 3,000 times
IMAGES = 64


@of_data_alone
def input_sizes(setup: Setup) -> InputSizes:
    """Look at the shapes of the first batches of an epoch."""
    if not setup.data.is_image or not setup.data.augmentations:
        raise DoesNotApply("images are not augmented")
    if setup.data.size("val") == 0:
        raise DoesNotApply("there is no val split")
    images = one_batch(setup, IMAGES, "sizes", "val")[0]
    epochs = (setup.data.epoch(setup.spec.seed, epoch, setup.batch_size) for epoch in itertools.count(1))
    sizes, rough = [], []
    for inputs, _ in itertools.islice(itertools.chain.from_iterable(epochs), BATCHES):
        sizes.append(tuple(inputs.shape[2:]))
        rough.append(_roughness(inputs))
    smooth = _roughness(images)
    rougher = sum(rough) / len(rough) / smooth if smooth > 0 else None
    return InputSizes(tuple(images.shape[2:]), min(sizes), max(sizes), len(sizes), rougher)


def _roughness(images: Tensor) -> float:
    """Return the mean difference of neighbouring pixels over the spread of all."""
    values = images.float()
    apart = [values.diff(dim=side).abs().mean() for side in (2, 3) if values.shape[side] > 1]
    return float(sum(apart) / len(apart) / values.std().clamp_min(1e-12)) if apart else 0.0
