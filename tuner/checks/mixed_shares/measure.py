"""Whether the labels of mixed examples are shared as their values are."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tuner.checks.mixed_shares.evidence import MixedShares
from tuner.checks.tools.augmented import Pair, pairs
from tuner.checks.tools.frame import DoesNotApply, of_data_alone
from tuner.train.setup import Setup

MOST = 256  # examples
LEFT = 0.01  # of the way between two examples, or of the values: what may be of neither
EQUAL = 1e-4  # of the way between two values
UNSURE = 0.02  # a share as near to 0 or 1 says nothing of the other example


@of_data_alone
def mixed_shares(setup: Setup) -> MixedShares:
    """Find of each mixed example what it is made of: a mean of two, or the one with a piece of the other."""
    if not setup.data.augmentations:
        raise DoesNotApply("the recipe augments nothing")
    found: list[tuple[float, float]] = []
    seen = 0
    for pair in pairs(setup):
        if pair[3].ndim != 2 or pair[1].ndim != 1 or pair[0].shape != pair[2].shape:
            raise DoesNotApply("the labels are no shares of classes, or inputs change their size")
        found += _shares(pair)
        seen += len(pair[1])
        if seen >= MOST:
            break
    shares = torch.tensor(found, dtype=torch.float64).T
    known = len(found) > 2 and bool((shares.std(1) > 0).all())
    return MixedShares(len(found), float(torch.corrcoef(shares)[0, 1]) if known else None)


def _shares(pair: Pair) -> Iterator[tuple[float, float]]:
    """Give (share of the label, share of the values) of the examples that are made of themselves and another one."""
    clean, targets, mixed, labels = pair[0].float().flatten(1), pair[1], pair[2].float().flatten(1), pair[3]
    for place, label in enumerate(labels):
        own = int(targets[place])
        others = [int(index) for index in (label > 0).nonzero().flatten() if int(index) != own]
        share = float(label[own])
        if len(others) != 1 or not UNSURE < share < 1 - UNSURE:
            continue  # its own class's partner, smoothed labels, or no partner
        partners = clean[targets == others[0]]
        if len(partners) and (of_values := _made_of(mixed[place], clean[place], partners)) is not None:
            yield share, of_values


def _made_of(mixed: Tensor, own: Tensor, partners: Tensor) -> float | None:
    """Return the share that an example has of a mixture with one of its partners; None where that is not seen."""
    way = own - partners
    along = (mixed - partners) * way
    squares = way.square().sum(1).clamp_min(1e-12)
    share = along.sum(1) / squares
    left = (mixed - partners - share[:, None] * way).square().sum(1) / squares
    best = int(left.argmin())
    if float(left[best]) <= LEFT**2:
        return float(share[best])
    differ = way.abs() > EQUAL
    is_own, is_other = ((mixed - item).abs() <= EQUAL * way.abs() for item in (own, partners))
    counts = differ.sum(1).clamp_min(1)
    neither = (differ & ~is_own & ~is_other).sum(1) / counts
    neither = neither.masked_fill(((mixed != own) & ~is_other).any(1), 1.0)
    best = int(neither.argmin())
    if float(neither[best]) > LEFT:
        return None
    return float((differ & is_own)[best].sum() / counts[best])
