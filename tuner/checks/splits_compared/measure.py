"""Do train and val come from one place, and do the labels belong to their inputs? Asked of the data alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tuner.checks.splits_compared.evidence import SplitsCompared
from tuner.checks.tools.examples import ENOUGH, MOST, different
from tuner.checks.tools.features import separability, textured
from tuner.checks.tools.frame import CannotProbe, DoesNotApply, gathered, of_data_alone
from tuner.train.setup import Setup

IN_ORDER = 0.98  # rank correlation with the place in train


@of_data_alone
def splits_compared(setup: Setup) -> SplitsCompared:
    """Compare train with val, both through the val pipeline: statistics, and whether a classifier tells them apart."""
    if not setup.data.size("val"):
        raise CannotProbe("there is no val split to compare with")
    if not gathered(setup, "train", torch.tensor([0]))[0].is_floating_point():
        raise DoesNotApply("the inputs are whole numbers, such as words or nodes by number: their sizes mean nothing")
    whole, labels = different(setup, "train", MOST, _by_channel, textured)
    others, val_labels = different(setup, "val", MOST, _by_channel, textured)
    rows, val_rows = _of_equal_classes(labels, val_labels)
    if len(rows) < ENOUGH:
        raise CannotProbe(f"only {len(rows)} different examples of each split with the same classes")
    shifts = [
        {**entry, "ordered": ordered}
        for entry, ordered in zip(_shifts(whole[0][rows], others[0][val_rows]), _in_order(whole[0]), strict=True)
    ]
    found: dict[str, Any] = {"train": len(rows), "val": len(val_rows), "shifts": shifts}
    found["augmented_by_itself"] = bool(setup.data.stochastic)
    found["separability"] = None if setup.data.stochastic else separability(whole[1][rows], others[1][val_rows])
    return SplitsCompared.from_json({**found, "is_image": bool(setup.data.is_image)})


def _of_equal_classes(train: Tensor, val: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows of as many examples of each label in train as in val: other class shares make other pictures."""
    kept: tuple[list[Tensor], list[Tensor]] = ([], [])
    for label in train.unique().tolist():
        places = [(targets == label).nonzero().flatten() for targets in (train, val)]
        count = min(map(len, places))
        for part, rows in zip(kept, places, strict=True):
            part.append(rows[:count])
    return torch.cat(kept[0]), torch.cat(kept[1])


def _in_order(by_channel: Tensor) -> list[bool]:
    """Say of each channel or column whether its rank among the examples is that of their places, or the reverse."""
    values = by_channel[:, :, 0]
    ranks = values.argsort(dim=0, stable=True).argsort(0).double()
    places = torch.arange(len(values)).double()[:, None].to(ranks)
    centred = (ranks - ranks.mean(0)) / ranks.std(0)
    agreement = (centred * ((places - places.mean()) / places.std())).mean(0).abs()
    varies = values.amax(0) > values.amin(0)
    return [bool(entry) for entry in (agreement > IN_ORDER) & varies]


def _by_channel(inputs: Tensor) -> Tensor:
    """Return (examples, channels or columns, mean and spread of the example in it)."""
    values = inputs.double().nan_to_num(0.0, 0.0, 0.0)
    if values.ndim < 3:
        return values.reshape(len(values), -1, 1)
    flat = values.flatten(2)
    return torch.stack([flat.mean(2), flat.std(2)], dim=2)


def _shifts(train: Tensor, val: Tensor) -> list[dict[str, float]]:
    found = []
    for column in range(train.shape[1]):
        a, b = train[:, column], val[:, column]
        spread = ((a.var(0) + b.var(0)) / 2).sqrt().clamp_min(1e-12)
        error = (a.var(0) / len(a) + b.var(0) / len(b)).sqrt().clamp_min(1e-12)
        difference = b.mean(0) - a.mean(0)
        size = max(float(a.abs().mean()), float(b.abs().mean()), 1e-12)
        still = float(spread.max()) < 1e-6 * size  # constant in both
        found.append(
            {
                "mean": 0.0 if still else float(difference[0] / spread[0]),
                "z": 0.0 if still else float(difference[0] / error[0]),
                "within": 0.0 if still or len(spread) < 2 else float(difference[1] / spread[1]),
                "within_z": 0.0 if still or len(spread) < 2 else float(difference[1] / error[1]),
            }
        )
    return found
