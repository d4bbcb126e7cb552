"""What a trained model of any task can do, by scikit-learn's scores: what a case is certified by."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from sklearn import metrics
from torch import Tensor
from torch.nn import functional

IGNORED = -100
NOTHING = {"accuracy": math.nan, "balanced_accuracy": math.nan, "nll": math.nan}


def scores_of(task: str, outputs: Any, targets: Tensor) -> dict[str, float]:
    """Return `accuracy` (the task's own score), `balanced_accuracy` and `nll` (the loss of the outputs as they are).

    Classification, per position too: accuracy and mean recall over what counts. Several labels: mean average precision.
    A quantity: R2. Features: mean average precision of retrieval by cosine.
    """
    if not isinstance(outputs, Tensor) or len(outputs) != len(targets):
        return NOTHING
    if task == "classification":
        return _classes(outputs.float(), targets)
    known = {"multilabel": _labels, "regression": _values, "embedding": _features}
    return {**NOTHING, **known[task](outputs.float().reshape(len(outputs), -1), targets)}


def _classes(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    if targets.ndim > 1 and outputs.ndim == targets.ndim + 1:
        if outputs.shape[2:] != targets.shape[1:]:
            outputs = outputs.movedim(-1, 1)
        if outputs.shape[2:] != targets.shape[1:]:
            return NOTHING
        outputs = outputs.movedim(1, -1).flatten(0, -2)
    targets = targets.flatten()
    if outputs.ndim != 2 or len(outputs) != len(targets):
        return NOTHING
    counted = targets != IGNORED
    outputs, targets = outputs[counted], targets[counted]
    answers = outputs.argmax(1)
    fits = int(targets.max()) < outputs.shape[1]
    recalls = [(answers[targets == label] == label).float().mean().item() for label in targets.unique()]
    return {
        "accuracy": float(metrics.accuracy_score(targets, answers)),
        "balanced_accuracy": sum(recalls) / len(recalls),
        "nll": functional.cross_entropy(outputs, targets).item() if fits else math.nan,
    }


def _labels(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    score = float(metrics.average_precision_score(targets, outputs, average="macro"))
    loss = functional.binary_cross_entropy_with_logits(outputs, targets.float()).item()
    return {"accuracy": score, "balanced_accuracy": score, "nll": loss}


def _values(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    wanted = targets.float().reshape(len(targets), -1)
    if outputs.shape != wanted.shape:
        return {}
    score = float(metrics.r2_score(wanted, outputs))
    return {"accuracy": score, "balanced_accuracy": score, "nll": functional.mse_loss(outputs, wanted).item()}


def _features(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    near = functional.normalize(outputs, dim=1)
    similar, kinds = (near @ near.T).numpy(), targets.numpy()
    found = []
    for query in range(len(kinds)):
        others = np.arange(len(kinds)) != query
        match = kinds[others] == kinds[query]
        if match.any():
            found.append(metrics.average_precision_score(match, similar[query][others]))
    score = float(np.mean(found)) if found else math.nan
    return {"accuracy": score, "balanced_accuracy": score}


def as_columns(outputs: Any, task: str) -> Any:
    """Return class scores: two columns of a single score, where the task has classes."""
    single = task == "classification" and isinstance(outputs, Tensor) and outputs.ndim == 2 and outputs.shape[1] == 1
    return torch.cat([torch.zeros_like(outputs), outputs], 1) if single else outputs
