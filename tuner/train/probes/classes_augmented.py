"""What augmentation does to each class: some may lose what tells them from one other class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tuner.train.probes._features import Kernel, Scaler, small
from tuner.train.probes._frame import CannotProbe, before_training
from tuner.train.probes.augmentation import ENOUGH, _batches, _joined

MOST_CLASSES = 100


@before_training
def classes_augmented(setup: Any) -> dict[str, Any]:
    """Fit a kernel classifier to clean and to augmented examples, and ask both about clean ones of each class.

    `recall`: per class (clean, augmented), over examples that neither was fitted to; `taken_for`: the class that
    wrong answers of the second name most often, and their share of the class's examples, clean and augmented;
    `counts`: examples asked per class.
    """
    if not setup.data.augmentations:
        raise CannotProbe("there is no augmentation")
    if setup.data.stochastic:
        raise CannotProbe("two reads of one example differ, so augmented inputs cannot be held against clean ones")
    clean, targets, changed, labels = _joined(_batches(setup))
    classes = setup.data.num_classes
    in_range = int(targets.min()) >= 0 and int(targets.max()) < classes and labels.shape == targets.shape
    if len(clean) < ENOUGH or classes > MOST_CLASSES or not in_range or labels.is_floating_point():
        raise CannotProbe("there are too few examples, too many classes, or no one label per example")
    half = len(clean) // 2
    scale = Scaler.of(small(clean[:half]))
    as_is, now = scale(small(clean)), scale(small(changed))
    tables = [
        _confusion(Kernel.fit(given, wanted, classes), as_is[half:], targets[half:], classes)
        for given, wanted in ((as_is[:half], targets[:half]), (now[:half], labels[:half]))
    ]
    counts = tables[0].sum(1)
    shares = [table / counts.clamp_min(1)[:, None] for table in tables]
    away = (shares[1] - shares[0]).fill_diagonal_(-1.0)
    other = away.argmax(1)
    rows = torch.arange(classes)
    return {
        "counts": counts.int().tolist(),
        "recall": torch.stack([share.diagonal() for share in shares], 1).tolist(),
        "taken_for": other.tolist(),
        "share_taken": torch.stack([share[rows, other] for share in shares], 1).tolist(),
        "class_names": list(setup.data.class_names or []),
    }


def _confusion(kernel: Kernel, examples: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Return counts (true class, answer)."""
    table = torch.zeros(classes, classes)
    table.index_put_((truth, kernel.scores(examples).argmax(1)), torch.ones(len(truth)), accumulate=True)
    return table
