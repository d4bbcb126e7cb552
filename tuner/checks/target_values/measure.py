"""Are the quantities of train and val of one kind, and does one column give them away? Asked of the data alone."""

from __future__ import annotations

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
    explained = torch.stack(
        [
            correlation(given, y).square()
            for given, wanted in ((columns, quantities), (_ranks(columns), _ranks(quantities)))
            for y in wanted.T
        ]
    ).amax(0)
    best = int(explained.argmax())
    others = explained[correlation(columns, columns[:, best]).abs() < 0.9]
    names = setup.data.feature_names
    return {
        "features": values.shape[1],
        "best": float(explained[best]),
        "second": float(others.max()) if len(others) else 0.0,
        "name": str(names[best]) if names and len(names) == values.shape[1] else f"value {best}",
    }


def _ranks(columns: Tensor) -> Tensor:
    return torch.from_numpy(rankdata(columns.numpy(), axis=0))


def _by_quantity(targets: Tensor) -> Tensor:
    """Return targets as (examples, quantities)."""
    return targets.reshape(len(targets), -1).double()
