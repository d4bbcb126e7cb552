"""What is done with a trained model beyond one forward pass: averages over views and over snapshots, stacking."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from tuner.core.errors import UsageError
from tuner.train.evaluate import as_float
from tuner.train.setup import Setup

FOLDS = 5


def views_of(inputs: Tensor, names: Sequence[str]) -> list[Tensor]:
    """Return the inputs as they are, and each of the views: mirrored, turned, shifted or scaled.

    Source: the notes on competitions, test-time augmentation; multi-scale testing.
    """
    views = [inputs]
    for name in names:
        if inputs.dim() != 4:
            raise UsageError(f"after.tta: {name} is of images, the inputs have shape {tuple(inputs.shape[1:])}")
        if name == "hflip":
            views.append(inputs.flip(3))
        elif name == "vflip":
            views.append(inputs.flip(2))
        elif name == "quarter_turns":
            views += [inputs.rot90(k, (2, 3)) for k in (1, 2, 3)]
        elif name == "shifts":
            views += [inputs.roll(by, axis) for axis in (2, 3) for by in (-1, 1)]
        elif name == "scales":
            views += [nn.functional.interpolate(inputs, scale_factor=f, mode="bilinear") for f in (0.75, 1.25)]
    return views


@torch.no_grad()
def answers(
    model: nn.Module,
    batches: Iterable[tuple[Any, Tensor]],
    views: Sequence[str],
    autocast: Callable[[], AbstractContextManager[Any]],
) -> tuple[Tensor, Tensor]:
    """Return the mean of the softmax over the views, (N, C), and the targets, of a whole split."""
    model.eval()
    found, labels = [], []
    for inputs, targets in batches:
        with autocast():
            p = torch.stack([as_float(model(view)).softmax(1) for view in views_of(inputs, views)]).mean(0)
        found.append(p.cpu())
        labels.append(targets.cpu())
    return torch.cat(found), torch.cat(labels)


def after(setup: Setup, model: nn.Module, snapshots: Sequence[Mapping[str, Tensor]], batch: int) -> dict[str, Any]:
    """Return what the `[after]` table makes of val: accuracy alone, and with views, snapshots and stacking.

    The stacked answers are a logistic regression's on the members' log-probabilities, out of fold, so that val stays
    honest. Source: the notes on competitions, TTA, snapshot ensembles, stacking; G. Huang et al. 2017.
    """
    table = setup.tables["after"]
    views, own = table.get("tta", []), model.state_dict()
    kept = {name: item.detach().clone() for name, item in own.items()}

    def of(weights: Mapping[str, Tensor] | None, seen: Sequence[str]) -> tuple[Tensor, Tensor]:
        model.load_state_dict(weights if weights is not None else kept)
        return answers(model, setup.data.batches("val", batch), seen, setup.autocast)

    alone, labels = of(None, [])
    result: dict[str, Any] = {"single": _accuracy(alone, labels)}
    if views:
        result["tta"] = _accuracy(of(None, views)[0], labels)
    if table.get("ensemble") == "snapshots":
        members = [of(weights, views)[0] for weights in snapshots]
        result["members"] = [_accuracy(p, labels) for p in members]
        result["ensemble"] = _accuracy(torch.stack(members).mean(0), labels)
        if table.get("stacking"):
            result["stacked"] = stacked(members, labels)
    model.load_state_dict(kept)
    return result


def stacked(members: Sequence[Tensor], labels: Tensor) -> float:
    """Return the out-of-fold accuracy of a logistic regression on the members' log-probabilities."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    features = torch.cat([p.clamp(min=1e-6).log() for p in members], 1).numpy()
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    found = cross_val_predict(LogisticRegression(max_iter=500), features, labels.numpy(), cv=folds)
    return float((torch.from_numpy(found) == labels).double().mean())


def _accuracy(p: Tensor, labels: Tensor) -> float:
    return float((p.argmax(1) == labels).double().mean())
