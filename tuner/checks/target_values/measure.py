"""Are the quantities of train and val of one kind, and does one column give them away? Asked of the data alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import ks_2samp, rankdata
from torch import Tensor

from tuner.checks.single_features.measure import correlation, one_by_one
from tuner.checks.target_values.evidence import TargetValues
from tuner.checks.tools.examples import ENOUGH, MOST, different
from tuner.checks.tools.frame import DoesNotApply, of_data_alone
from tuner.train.setup import Setup

RUN = 3  # columns
ALIKE, NEAR = 0.8, 0.2  # correlation of neighbours; of the spread, between their means and spreads


@of_data_alone
def target_values(setup: Setup) -> TargetValues:
    """Compare the quantities of train and val, and ask every column of a table what it says about them."""
    if setup.data.task.noun != "value":
        raise DoesNotApply("the targets are no quantities")
    train = _by_quantity(setup.data.targets("train"))
    facts: dict[str, Any] = {"quantities": train.shape[1], "n": len(train)}
    if setup.data.size("val"):
        val = _by_quantity(setup.data.targets("val"))
        asked = [ks_2samp(a, b) for a, b in zip(train.T.numpy(), val.T.numpy(), strict=True)]
        most = max(range(len(asked)), key=lambda at: asked[at].statistic)
        facts |= {
            "distance": float(asked[most].statistic),
            "p": float(asked[most].pvalue),
            "medians": [float(np.median(part[:, most])) for part in (train, val)],
        }
    if not setup.data.is_image and getattr(setup.data, "is_one", True):
        facts |= _columns(setup)
    return TargetValues(**facts)


def _columns(setup: Setup) -> dict[str, Any]:
    """Return what the best single column explains of a quantity, as it is or by its order."""
    (values,), targets = different(setup, "train", 2 * MOST, one_by_one)
    if len(targets) < ENOUGH or values.shape[1] < 2:
        return {}
    columns, quantities = values.double(), _by_quantity(targets)
    by_value, by_rank = (
        torch.stack([correlation(given, y).square() for y in wanted.T]).amax(0)
        for given, wanted in ((columns, quantities), (_ranks(columns), _ranks(quantities)))
    )
    explained = torch.maximum(by_value, by_rank)
    best = int(explained.argmax())
    others = explained[correlation(columns, columns[:, best]).abs() < 0.9]
    names = setup.data.feature_names
    return {
        "features": values.shape[1],
        "best": float(explained[best]),
        "second": float(others.max()) if len(others) else 0.0,
        "in_a_row": _in_a_row(columns, best, setup.data.input_shape),
        "by_value": float(by_value[best]),
        "name": str(names[best]) if names and len(names) == values.shape[1] else f"value {best}",
    }


def _in_a_row(columns: Tensor, best: int, shape: Sequence[int]) -> bool:
    """Return whether a column and two beside it, along any axis, are one quantity: alike, of one mean and spread."""
    steps = {1} if len(shape) < 2 or math.prod(shape) != columns.shape[1] else {1, *shape[1:]}
    for step in steps:
        run = 1
        for way in (step, -step):
            at = best
            while (
                run < RUN and 0 <= at + way < columns.shape[1] and _one_quantity(columns[:, at], columns[:, at + way])
            ):
                run, at = run + 1, at + way
        if run >= RUN:
            return True
    return False


def _one_quantity(first: Tensor, second: Tensor) -> bool:
    spread, apart = float(first.std().clamp_min(1e-12)), abs(float(second.mean() - first.mean()))
    as_wide = abs(float(second.std()) / spread - 1) < NEAR
    return as_wide and apart < NEAR * spread and float(correlation(first[:, None], second)) > ALIKE


def _ranks(columns: Tensor) -> Tensor:
    return torch.from_numpy(rankdata(columns.numpy(), axis=0))


def _by_quantity(targets: Tensor) -> Tensor:
    """Return targets as (examples, quantities)."""
    return targets.reshape(len(targets), -1).double()
