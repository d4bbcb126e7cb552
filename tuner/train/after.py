"""What is done with a trained model beyond one forward pass: averages over views and over snapshots, stacking."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from tuner.core.errors import UsageError
from tuner.train.data import Data
from tuner.train.evaluate import as_float
from tuner.train.loop import evaluation_batch
from tuner.train.scoring import Scorer
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
    scorer: Scorer,
) -> tuple[Tensor, Tensor]:
    """Return the mean of the softmax over the views, (N, C), and the targets, of a whole split.

    Of a single score per example the classes are no and yes, as its scores take it.

    Raises:
        UsageError: "no scores of classes".
    """
    model.eval()
    found, labels = [], []
    for inputs, targets in batches:
        with autocast():
            outputs = [as_float(model(view)) for view in views_of(inputs, views)]
        rows = [scored for output in outputs if (scored := scorer.rows(output, targets)) is not None]
        if not rows:
            raise UsageError("after: the model's outputs are no scores of classes, (N, C): there is nothing to average")
        found.append(torch.stack([scores.softmax(1) for scores, _ in rows]).mean(0).cpu())
        labels.append(targets.cpu())
    return torch.cat(found), torch.cat(labels)


def after(
    setup: Setup, data: Data, model: nn.Module, members: Callable[[], Iterable[nn.Module]], split: str = "val"
) -> dict[str, Any]:
    """Return what the `[after]` table makes of a split: accuracy alone, over views, of several models, stacked.

    `members()` gives the models whose answers are averaged, one after the other. The stacked answers are a logistic
    regression's on the members' log-probabilities: of val out of fold, so that it stays honest; of another split
    fitted on val.

    Source: the notes on competitions, TTA, snapshot ensembles, stacking; G. Huang et al. 2017.
    """
    table = setup.tables["after"]
    views, batch, scorer = table.get("tta", []), evaluation_batch(setup), setup.scorer(setup.loss())

    def of(one: nn.Module, name: str, seen: Sequence[str]) -> tuple[Tensor, Tensor]:
        return answers(one, data.batches(name, batch), seen, setup.autocast, scorer)

    alone, labels = of(model, split, [])
    result: dict[str, Any] = {"single": _accuracy(alone, labels)}
    if views:
        result["tta"] = _accuracy(of(model, split, views)[0], labels)
    if table.get("ensemble") is None:
        return result
    names = ("val", split) if table.get("stacking") and split != "val" else (split,)
    kept = {name: item.detach().clone() for name, item in model.state_dict().items()}
    found = [{name: of(one, name, views) for name in names} for one in members()]
    model.load_state_dict(kept)
    if not found:
        return result
    own = [answered[split][0] for answered in found]
    result["members"] = [_accuracy(p, labels) for p in own]
    result["ensemble"] = _accuracy(torch.stack(own).mean(0), labels)
    if table.get("stacking") and split == "val":
        result["stacked"] = stacked(own, labels)
    elif table.get("stacking"):
        result["stacked"] = stacked_on([a["val"][0] for a in found], found[0]["val"][1], own, labels)
    return result


def snapshots_of(model: nn.Module, snapshots: Iterable[Mapping[str, Tensor]]) -> Iterator[nn.Module]:
    """Give the model with the weights of one snapshot after the other."""
    for weights in snapshots:
        model.load_state_dict(weights)
        yield model


def stacked(members: Sequence[Tensor], labels: Tensor) -> float:
    """Return the out-of-fold accuracy of a logistic regression on the members' log-probabilities."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    found = cross_val_predict(_regression(), _features(members), labels.numpy(), cv=folds)
    return float((torch.from_numpy(found) == labels).double().mean())


def stacked_on(fitted: Sequence[Tensor], known: Tensor, members: Sequence[Tensor], labels: Tensor) -> float:
    """Return the accuracy of a logistic regression that was fitted on the members' answers to other examples."""
    found = _regression().fit(_features(fitted), known.numpy()).predict(_features(members))
    return float((torch.from_numpy(found) == labels).double().mean())


def _regression() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=500)


def _features(members: Sequence[Tensor]) -> Any:
    return torch.cat([p.clamp(min=1e-6).log() for p in members], 1).numpy()


def _accuracy(p: Tensor, labels: Tensor) -> float:
    return float((p.argmax(1) == labels).double().mean())
