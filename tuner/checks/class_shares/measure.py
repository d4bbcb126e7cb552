"""Do train and val come from one place, and do the labels belong to their inputs? Asked of the data alone."""

from __future__ import annotations

import torch

from tuner.checks.class_shares.evidence import ClassShares
from tuner.checks.tools.frame import CannotProbe, of_data_alone
from tuner.train.setup import Setup


@of_data_alone
def class_shares(setup: Setup) -> ClassShares:
    """Compare the classes of the whole splits: half the summed difference of their shares, and chi-squared's p."""
    if not setup.data.size("val"):
        raise CannotProbe("there is no val split to compare with")
    counts = [
        torch.bincount(setup.data.targets(split).clamp_min(0), minlength=setup.data.num_classes).double()
        for split in ("train", "val")
    ]
    width = max(len(c) for c in counts)
    train, val = (torch.cat([c, c.new_zeros(width - len(c))]) for c in counts)
    both = (train + val) / (train + val).sum()
    expected = [both * c.sum() for c in (train, val)]
    there = both > 0
    chi2 = sum(float(((c - e).square() / e)[there].sum()) for c, e in zip((train, val), expected, strict=True))
    freedom = max(1, int(there.sum()) - 1)
    distance = 0.5 * float((train / train.sum() - val / val.sum()).abs().sum())
    p_value = float(1 - torch.special.gammainc(torch.tensor(freedom / 2.0).double(), torch.tensor(chi2 / 2).double()))
    return ClassShares(distance=distance, p=p_value)
