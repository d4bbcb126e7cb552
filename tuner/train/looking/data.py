"""What `tuner data` measures: classes, statistics, samples with augmentation, duplicates, suspect labels."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tuner.core.trial import TrialEnv, TrialSpec
from tuner.train.data import Data
from tuner.train.looking.pictures import grid
from tuner.train.setup import make_setup

SHOWN = 8
SUSPECTS = 50
FOLDS = 5
COMPONENTS = 50


def look_at_data(tables: dict[str, Any], env: TrialEnv, out: Path | None, suspects: bool) -> dict[str, Any]:
    """Return classes, statistics and duplicates of the splits, and the paths of what was written.

    Raises:
        UsageError, UserCodeError, InputError: the data are at fault.
    """
    setup = make_setup(TrialSpec(tables, {}, 0, horizon_epochs=1), env)
    data = setup.data
    splits = {name: data.targets(name) for name in ("train", "val")}
    found: dict[str, Any] = {"task": data.task.name, "input_shape": list(data.input_shape), "files": []}
    found["splits"] = {name: len(labels) for name, labels in splits.items()}
    is_classes = splits["train"].ndim == 1 and not splits["train"].is_floating_point()
    if is_classes:
        counts = {name: torch.bincount(labels, minlength=data.num_classes) for name, labels in splits.items()}
        names = data.class_names or tuple(map(str, range(data.num_classes)))
        found["classes"] = [
            {"class": names[c], **{split: int(counts[split][c]) for split in counts}} for c in range(data.num_classes)
        ]
    inputs = {name: data.inputs(name) for name in splits}
    train = inputs["train"].float()
    found["statistics"] = {key: float(getattr(train, key)()) for key in ("mean", "std", "min", "max")}
    found["duplicates"] = duplicates(inputs, splits)
    if out is not None and data.is_image:
        found["files"].append(str(_samples(data, out / "samples.png")))
    if suspects and is_classes and out is not None:
        rows = suspect_labels(train.flatten(1), splits["train"])
        path = out / "suspects.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["example", "where", "label", "answer", "probability_of_label"])
            for i, label, answer, p in rows[:SUSPECTS]:
                writer.writerow([i, data.describe("train", i), names[label], names[answer], f"{p:.4g}"])
        found["suspects"] = len(rows)
        found["files"].append(str(path))
        if data.is_image and rows:
            chosen = torch.tensor([row[0] for row in rows[:SUSPECTS]])
            found["files"].append(str(grid(list(inputs["train"][chosen]), 10, out / "suspects.png")))
    return found


def duplicates(inputs: dict[str, Tensor], targets: dict[str, Tensor]) -> dict[str, int]:
    """Count examples that occur again: within train, in train and val, and those of them with another label."""
    keys = {name: [_key(row) for row in values] for name, values in inputs.items()}
    within = sum(count - 1 for count in Counter(keys["train"]).values())
    label_of = {key: targets["train"][i].tolist() for i, key in enumerate(keys["train"])}
    shared = [i for i, key in enumerate(keys["val"]) if key in label_of]
    differ = sum(targets["val"][i].tolist() != label_of[keys["val"][i]] for i in shared)
    return {"within_train": within, "train_and_val": len(shared), "of_these_with_another_label": differ}


def _key(values: Tensor) -> bytes:
    return hashlib.blake2b(values.contiguous().numpy().tobytes(), digest_size=16).digest()


def suspect_labels(features: Tensor, targets: Tensor) -> list[tuple[int, int, int, float]]:
    """Return (example, label, answer, probability of the label) of wrong out-of-fold answers, least probable first.

    The answers are a logistic regression's on principal components, five folds: it finds labels that contradict what
    the pixels or columns say in a straight way. Source: C. Northcutt et al. 2021, confident learning (the ranking).
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    counts = torch.bincount(targets)
    usable = (counts[targets] >= FOLDS).nonzero()[:, 0]
    if len(usable) < 2 * FOLDS or len(targets[usable].unique()) < 2:
        return []
    x, y = features[usable].numpy(), targets[usable].numpy()
    size = min(COMPONENTS, x.shape[1], len(x) - len(x) // FOLDS - 1)
    model = make_pipeline(StandardScaler(), PCA(size, random_state=0), LogisticRegression(max_iter=300))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    p = torch.from_numpy(cross_val_predict(model, x, y, cv=folds, method="predict_proba"))
    classes = torch.from_numpy(y).unique()
    place = {int(label): i for i, label in enumerate(classes)}
    rows = []
    for i, label in enumerate(y.tolist()):
        answer = int(classes[int(p[i].argmax())])
        if answer != label:
            rows.append((int(usable[i]), label, answer, float(p[i, place[label]])))
    return sorted(rows, key=lambda row: row[3])


def _samples(data: Data, path: Path) -> Path:
    """Write a row for each of some train examples: the original, then augmented versions of it."""
    chosen = torch.linspace(0, data.size("train") - 1, SHOWN).long()
    part = data.part("train")
    inputs, targets = part.store.read(part.positions(chosen))
    rows = [list(inputs)]
    for seed in range(SHOWN - 1) if data.augmentations else ():
        moved, labels = inputs.to(data.device), targets.to(data.device)
        draws = torch.Generator(data.device).manual_seed(seed)
        for augmentation in data.augmentations:
            moved, labels = augmentation(moved, labels, draws)
        size = list(inputs.shape[2:])
        shown = moved if list(moved.shape[2:]) == size else torch.nn.functional.interpolate(moved.float(), size)
        rows.append(list(shown.cpu()))
    return grid([row[i] for i in range(SHOWN) for row in rows], len(rows), path)
