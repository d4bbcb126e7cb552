"""Do train and val come from one place, and do the labels belong to their inputs? Asked of the data alone."""

from __future__ import annotations

import torch
from torch import Tensor

from tuner.checks.labels_shifted.evidence import LabelsShifted
from tuner.checks.tools.examples import ENOUGH, MOST, pictured
from tuner.checks.tools.features import Kernel, Scaler, small
from tuner.checks.tools.frame import CannotProbe, of_data_alone
from tuner.train.setup import Setup


@of_data_alone
def labels_shifted(setup: Setup) -> LabelsShifted:
    """Ask the kernel classifier about a run of train examples as they are stored: does the label before or after fit?

    `own`, `before`, `after`: its accuracy on the labels as they are, and on those of the neighbours in the order of the
    split, where a few are missing that are in other splits.
    """
    if not setup.data.is_image:
        raise CannotProbe("rows may follow each other in time, where an input tells the label before by right")
    run = torch.arange(min(MOST, setup.data.size("train")))
    (features,), targets = pictured(setup, "train", run, small)
    classes = setup.data.num_classes
    if len(targets) < ENOUGH or int(targets.min()) < 0 or int(targets.max()) >= classes:
        raise CannotProbe(f"{len(targets)} train examples with labels in range are too few")
    examples = Scaler.of(features)(features)

    def right(labels: Tensor) -> float:
        return float((Kernel.fit(examples, labels, classes).left_out.argmax(1) == labels).double().mean())

    found = {"own": right(targets), "before": right(targets.roll(1)), "after": right(targets.roll(-1))}
    return LabelsShifted(n=len(targets), **found)
