"""Do train and val come from one place, and do the labels belong to their inputs? Asked of the data alone."""

from __future__ import annotations

import torch
from torch import Tensor

from tuner.checks.splits_compared.evidence import SplitsCompared
from tuner.checks.tools.examples import ENOUGH, _examples
from tuner.checks.tools.features import separability, textured
from tuner.checks.tools.frame import Batch, CannotProbe, of_data_alone
from tuner.train.setup import Setup

IN_ORDER = 0.98  # rank correlation with the place in train


@of_data_alone
def splits_compared(setup: Setup) -> SplitsCompared:
    """Compare train with val, both through the val pipeline: statistics, and whether a classifier tells them apart.

    `shifts`: per channel or column the difference of means in units of its spread over examples, its z, and the ratio
    of the spreads. `separability`: of a linear classifier between the splits (0.5: none).
    """
    if not setup.data.size("val"):
        raise CannotProbe("there is no val split to compare with")
    whole = _examples(setup, "train")
    if not whole[0].is_floating_point():
        raise CannotProbe("the inputs are whole numbers, such as words or nodes by number: their sizes mean nothing")
    train, val = _of_equal_classes(whole, _examples(setup, "val"))
    if len(train) < ENOUGH:
        raise CannotProbe(f"only {len(train)} different examples of each split with the same classes")
    shifts = [
        {**entry, "ordered": ordered}
        for entry, ordered in zip(_shifts(_by_channel(train), _by_channel(val)), _in_order(whole[0]), strict=True)
    ]
    found = {"train": len(train), "val": len(val), "shifts": shifts, "augmented_by_itself": bool(setup.data.stochastic)}
    found["separability"] = None if setup.data.stochastic else separability(textured(train), textured(val))
    return SplitsCompared.from_json({**found, "is_image": bool(setup.data.is_image)})


def _of_equal_classes(train: Batch, val: Batch) -> tuple[Tensor, Tensor]:
    """Return as many inputs of each class from train as from val: other class shares make other pictures by nature."""
    kept: tuple[list[Tensor], list[Tensor]] = ([], [])
    for label in train[1].unique().tolist():
        places = [(targets == label).nonzero().flatten() for _, targets in (train, val)]
        count = min(map(len, places))
        for part, (inputs, _), rows in zip(kept, (train, val), places, strict=True):
            part.append(inputs[rows[:count]])
    return torch.cat(kept[0]), torch.cat(kept[1])


def _in_order(inputs: Tensor) -> list[bool]:
    """Say of each channel or column whether its rank among the examples is that of their places, or the reverse."""
    values = _by_channel(inputs)[:, :, 0]
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
