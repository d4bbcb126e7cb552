"""Do train and val come from one place, and do the labels belong to their inputs? Asked of the data alone."""

from __future__ import annotations

import torch
from torch import Tensor

from tuner.checks.single_features.evidence import SingleFeatures
from tuner.checks.tools.examples import ENOUGH, MOST, different
from tuner.checks.tools.frame import CannotProbe, of_data_alone
from tuner.core.streams import derive_seed
from tuner.train.setup import Setup

WIDEST = 4096  # values of an example that are looked at one by one
BINS = 64


@of_data_alone
def single_features(setup: Setup) -> SingleFeatures:
    """Find the column or pixel that says most about the label: bins made on one half of train, judged on the other."""
    (values,), targets = different(setup, "train", MOST if setup.data.is_image else 2 * MOST, one_by_one)
    classes = setup.data.num_classes
    if len(targets) < ENOUGH or int(targets.min()) < 0 or int(targets.max()) >= classes:
        raise CannotProbe(f"{len(targets)} different train examples with labels in range are too few")
    half = len(targets) // 2
    order = torch.randperm(
        len(targets), generator=torch.Generator().manual_seed(derive_seed(setup.spec.seed, "halves"))
    )
    fit, judged = order[:half], order[half:]
    accuracy = _one_feature_accuracy(values[fit], targets[fit], values[judged], targets[judged], classes)
    best = int(accuracy.argmax())
    apart = correlation(values, values[:, best]).abs() < 0.9
    others = accuracy[apart]
    names = setup.data.feature_names
    return SingleFeatures(
        features=values.shape[1],
        best=float(accuracy[best]),
        name=str(names[best]) if names and len(names) == values.shape[1] else f"value {best}",
        second=float(others.max()) if len(others) else 0.0,
        chance=float(torch.bincount(targets).max()) / len(targets),
        n=len(judged),
        is_image=bool(setup.data.is_image),
    )


def one_by_one(inputs: Tensor) -> Tensor:
    """Return (examples, values): the values of each input, at most WIDEST of them, spread over all."""
    values = inputs.reshape(len(inputs), -1)
    if values.shape[1] > WIDEST:
        values = values[:, torch.linspace(0, values.shape[1] - 1, WIDEST).long()]
    return values.float().nan_to_num(0.0, 0.0, 0.0)


def _one_feature_accuracy(fit: Tensor, labels: Tensor, judged: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Return, per feature, the accuracy of answering with the majority class of its bin."""
    columns = [half.T.contiguous() for half in (fit, judged)]  # sorting is fast along memory
    cuts = torch.quantile(columns[0], torch.linspace(0, 1, BINS + 1)[1:-1], dim=1).T.contiguous()
    places = [torch.searchsorted(cuts, half) for half in columns]
    offsets = torch.arange(fit.shape[1])[:, None] * BINS
    cells = ((places[0] + offsets) * classes + labels).flatten()
    counts = torch.bincount(cells, minlength=fit.shape[1] * BINS * classes).reshape(fit.shape[1], BINS, classes)
    answers = counts.argmax(2).gather(1, places[1])
    return (answers == truth).double().mean(1)


def correlation(values: Tensor, other: Tensor) -> Tensor:
    """Return the correlation of every column with another one."""
    centred, other = values - values.mean(0), other - other.mean()
    return (centred.T @ other) / (centred.norm(dim=0).clamp_min(1e-12) * other.norm().clamp_min(1e-12))
