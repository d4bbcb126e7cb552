"""What augmentation does to each class: some may lose what tells them from one other class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.checks.classes_augmented.evidence import ClassesAugmented
from tuner.checks.tools.augmented import ENOUGH, pairs
from tuner.checks.tools.features import Kernel, Scaler
from tuner.checks.tools.frame import CannotProbe, before_training
from tuner.train.setup import Setup

MOST_CLASSES = 100
SIDE = 16  # a mirror image may differ in a few strokes


@before_training
def classes_augmented(setup: Setup) -> ClassesAugmented:
    """Ask a kernel classifier that was made on clean examples about others of each class, clean and augmented."""
    if not setup.data.augmentations:
        return ClassesAugmented(counts=[], recall=[], taken_for=[], share_taken=[], rest=[])
    kept = ((_pictures(x), y, _pictures(augmented), labels) for x, y, augmented, labels in pairs(setup))
    as_is, targets, now, labels = (torch.cat(part) for part in zip(*kept, strict=True))
    classes = setup.data.num_classes
    in_range = int(targets.min()) >= 0 and int(targets.max()) < classes and labels.shape == targets.shape
    if len(as_is) < ENOUGH or classes > MOST_CLASSES or not in_range or labels.is_floating_point():
        raise CannotProbe("there are too few examples, too many classes, or no one label per example")
    half = len(as_is) // 2
    if not setup.data.is_image:
        scale = Scaler.of(as_is[:half])  # columns of a table have units of their own, pixels have one
        as_is, now = scale(as_is), scale(now)
    kernel = Kernel.fit(as_is[:half], targets[:half], classes)
    tables = [_confusion(kernel, given[half:], targets[half:], classes) for given in (as_is, now)]
    counts = tables[0].sum(1)
    shares = [table / counts.clamp_min(1)[:, None] for table in tables]
    more = shares[1] - shares[0]
    other = more.clone().fill_diagonal_(-1.0).argmax(1)
    rows = torch.arange(classes)
    into = more.sum(0) - more.diagonal()  # what every class takes from all others
    return ClassesAugmented(
        counts=counts.int().tolist(),
        recall=torch.stack([share.diagonal() for share in shares], 1).tolist(),
        taken_for=other.tolist(),
        share_taken=torch.stack([share[rows, other] for share in shares], 1).tolist(),
        rest=[
            float(into[b] - more[a, b]) / max(classes - 2, 1)
            for a, b in zip(rows.tolist(), other.tolist(), strict=True)
        ],
        class_names=list(setup.data.class_names or []),
    )


def _pictures(inputs: Tensor) -> Tensor:
    """Return images averaged down to 16 x 16, and everything else as it is, (examples, values)."""
    inputs = inputs.float().nan_to_num()
    if inputs.ndim == 4 and max(inputs.shape[2:]) > SIDE:
        inputs = F.adaptive_avg_pool2d(inputs, (min(SIDE, inputs.shape[2]), min(SIDE, inputs.shape[3])))
    return inputs.flatten(1)


def _confusion(kernel: Kernel, examples: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Return counts (true class, answer)."""
    table = torch.zeros(classes, classes)
    table.index_put_((truth, kernel.scores(examples).argmax(1)), torch.ones(len(truth)), accumulate=True)
    return table
