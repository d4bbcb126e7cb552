"""Do train and val come from one place, and do the labels belong to their inputs? Asked of the data alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tuner.core.statistics import mean_std
from tuner.core.streams import derive_seed
from tuner.train.probes._features import Kernel, Scaler, separability, small, textured, without_copies
from tuner.train.probes._frame import Batch, CannotProbe, before_training, gathered, keys_of, one_batch

MOST = 1000  # examples of each split
ENOUGH = 60
WIDEST = 4096  # values of an example that are looked at one by one
BINS = 64


def _examples(setup: Any, split: str, count: int = MOST) -> Batch:
    """Return different examples of a split as val sees them: normalised, not augmented, none twice."""
    inputs, targets = (part.cpu() for part in one_batch(setup, count, f"splits {split}", split))
    first = {key: place for place, key in reversed(list(enumerate(keys_of(inputs))))}
    kept = torch.tensor(sorted(first.values()))
    return inputs[kept], targets[kept]


@before_training
def splits_compared(setup: Any) -> dict[str, Any]:
    """Compare train with val, both through the val pipeline: statistics, and whether a classifier tells them apart.

    `shifts`: per channel or column the difference of means in units of its spread over examples, its z, and the ratio
    of the spreads. `separability`: of a linear classifier between the splits (0.5: none).
    """
    if not setup.data.size("val"):
        raise CannotProbe("there is no val split to compare with")
    train, val = _of_equal_classes(_examples(setup, "train"), _examples(setup, "val"))
    if len(train) < ENOUGH:
        raise CannotProbe(f"only {len(train)} different examples of each split with the same classes")
    shifts = _shifts(_by_channel(train), _by_channel(val))
    found = {"train": len(train), "val": len(val), "shifts": shifts, "augmented_by_itself": bool(setup.data.stochastic)}
    found["separability"] = None if setup.data.stochastic else separability(textured(train), textured(val))
    return {**found, "is_image": bool(setup.data.is_image)}


def _of_equal_classes(train: Batch, val: Batch) -> tuple[Tensor, Tensor]:
    """Return as many inputs of each class from train as from val: other class shares make other pictures by nature."""
    kept: tuple[list[Tensor], list[Tensor]] = ([], [])
    for label in train[1].unique().tolist():
        places = [(targets == label).nonzero().flatten() for _, targets in (train, val)]
        count = min(map(len, places))
        for part, (inputs, _), rows in zip(kept, (train, val), places, strict=True):
            part.append(inputs[rows[:count]])
    return torch.cat(kept[0]), torch.cat(kept[1])


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


@before_training
def class_shares(setup: Any) -> dict[str, Any]:
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
    return {"distance": distance, "p": p_value}


@before_training
def labels_fit(setup: Any) -> dict[str, Any]:
    """Ask a kernel classifier on small pictures of the inputs how much they say about the labels.

    `train`: accuracy on train, every example judged by the others; `val`: by the train examples; `val_renamed`: with
    its answers renamed class by class as fits best; `chance`: the share of the largest class.
    """
    inputs, targets = _examples(setup, "train")
    classes = setup.data.num_classes
    inside = (targets >= 0) & (targets < classes)
    inputs, targets = inputs[inside], targets[inside]
    if len(targets) < ENOUGH:
        raise CannotProbe(f"only {len(targets)} different train examples")
    scale = Scaler.of(features := small(inputs))
    alone = without_copies(scale(features))
    targets = targets[alone]
    kernel = Kernel.fit(scale(features)[alone], targets, classes)
    guesses = kernel.left_out.argmax(1)
    found: dict[str, Any] = {
        "n": len(targets),
        "classes": classes,
        "train": float((guesses == targets).double().mean()),
        "chance": float(torch.bincount(targets).max()) / len(targets),
        **_shuffled(kernel, targets, setup.spec.seed),
    }
    if not setup.data.size("val"):
        return found
    val_inputs, val_targets = _examples(setup, "val")
    inside = (val_targets >= 0) & (val_targets < classes)
    answers = kernel.scores(scale(small(val_inputs[inside]))).argmax(1)
    table = torch.zeros(classes, classes)
    table.index_put_((answers, val_targets[inside]), torch.ones(len(answers)), accumulate=True)
    total = max(len(answers), 1)
    majority = float(torch.bincount(val_targets[inside], minlength=classes).max()) / total
    return found | {
        "val_n": len(answers),
        "val": float(table.diagonal().sum()) / total,
        "val_renamed": float(table.max(1).values.sum()) / total,
        "val_chance": majority,
    }


@before_training
def labels_shifted(setup: Any) -> dict[str, Any]:
    """Ask the kernel classifier about a run of train examples as they are stored: does the label before or after fit?

    `own`, `before`, `after`: its accuracy on the labels as they are, and on those of the neighbours in the order of the
    split, where a few are missing that are in other splits.
    """
    if not setup.data.is_image:
        raise CannotProbe("rows may follow each other in time, where an input tells the label before by right")
    run = torch.arange(min(MOST, setup.data.size("train")))
    inputs, targets = (part.cpu() for part in gathered(setup, "train", run))
    classes = setup.data.num_classes
    if len(targets) < ENOUGH or int(targets.min()) < 0 or int(targets.max()) >= classes:
        raise CannotProbe(f"{len(targets)} train examples with labels in range are too few")
    features = small(inputs)
    examples = Scaler.of(features)(features)

    def right(labels: Tensor) -> float:
        return float((Kernel.fit(examples, labels, classes).left_out.argmax(1) == labels).double().mean())

    found = {"own": right(targets), "before": right(targets.roll(1)), "after": right(targets.roll(-1))}
    return {"n": len(targets), **found}


def _shuffled(kernel: Kernel, targets: Tensor, seed: int) -> dict[str, float | None]:
    """Return what the left-out scores get right of labels in a random order: mean and standard deviation."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "probe", "shuffled labels"))
    guesses = kernel.left_out.argmax(1)
    rights = [
        float((guesses == targets[torch.randperm(len(targets), generator=generator)]).double().mean())
        for _ in range(50)
    ]
    mean, std = mean_std(rights)
    return {"shuffled": mean, "shuffled_std": std}


@before_training
def single_features(setup: Any) -> dict[str, Any]:
    """Find the one column or pixel that says most about the label: bins made on one half of train, judged on the other.

    `second`: the accuracy of the best one that does not go with it.
    """
    inputs, targets = _examples(setup, "train", MOST if setup.data.is_image else 2 * MOST)
    classes = setup.data.num_classes
    values = inputs.reshape(len(inputs), -1).float().nan_to_num(0.0, 0.0, 0.0)
    if len(targets) < ENOUGH or int(targets.min()) < 0 or int(targets.max()) >= classes:
        raise CannotProbe(f"{len(targets)} different train examples with labels in range are too few")
    if values.shape[1] > WIDEST:
        values = values[:, torch.linspace(0, values.shape[1] - 1, WIDEST).long()]
    half = len(targets) // 2
    order = torch.randperm(
        len(targets), generator=torch.Generator().manual_seed(derive_seed(setup.spec.seed, "halves"))
    )
    fit, judged = order[:half], order[half:]
    accuracy = _one_feature_accuracy(values[fit], targets[fit], values[judged], targets[judged], classes)
    best = int(accuracy.argmax())
    apart = _correlation(values, best).abs() < 0.9
    others = accuracy[apart]
    names = setup.data.feature_names
    return {
        "features": values.shape[1],
        "best": float(accuracy[best]),
        "name": str(names[best]) if names and len(names) == values.shape[1] else f"value {best}",
        "second": float(others.max()) if len(others) else 0.0,
        "chance": float(torch.bincount(targets).max()) / len(targets),
        "n": len(judged),
        "is_image": bool(setup.data.is_image),
    }


def _one_feature_accuracy(fit: Tensor, labels: Tensor, judged: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Return, per feature, the accuracy of answering with the commonest class of its bin."""
    columns = [half.T.contiguous() for half in (fit, judged)]  # sorting is fast along memory
    cuts = torch.quantile(columns[0], torch.linspace(0, 1, BINS + 1)[1:-1], dim=1).T.contiguous()
    places = [torch.searchsorted(cuts, half) for half in columns]
    offsets = torch.arange(fit.shape[1])[:, None] * BINS
    cells = ((places[0] + offsets) * classes + labels).flatten()
    counts = torch.bincount(cells, minlength=fit.shape[1] * BINS * classes).reshape(fit.shape[1], BINS, classes)
    answers = counts.argmax(2).gather(1, places[1])
    return (answers == truth).double().mean(1)


def _correlation(values: Tensor, column: int) -> Tensor:
    centred = values - values.mean(0)
    norms = centred.norm(dim=0).clamp_min(1e-12)
    return (centred.T @ centred[:, column]) / (norms * norms[column])
