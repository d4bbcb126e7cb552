"""Several labels per example, each there or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.core.errors import UsageError
from tuner.tasks import scores
from tuner.tasks.base import Array, Rows, Tensor, number_of


@dataclass(frozen=True)
class Multilabel:
    """Targets (N, C) of 0 and 1, outputs (N, C): above the threshold where a label is said to be there."""

    name: str = "multilabel"
    score: str = "mean_average_precision"
    always: tuple[str, ...] = ("mean_average_precision", "macro_f1", "label_accuracy")
    scores: tuple[str, ...] = ("mean_average_precision", "macro_f1", "f_beta", "label_accuracy", "auc")
    noun: str = "label"

    def as_targets(self, values: Any, where: str) -> Array:
        array = np.asarray(values)
        if array.ndim != 2 or array.dtype.kind not in "biuf" or not ((array == 0) | (array == 1)).all():
            raise UsageError(
                f"{where}: multi-label targets must be (examples, labels) of 0 and 1, they have shape {array.shape}",
                "One row per example, one column per label: 1 where the label is there.",
            )
        return array.astype(np.float32)

    def width(self, *targets: Array) -> int:
        return int(targets[0].shape[1])

    def strata(self, targets: Array) -> Array:
        """Return the number of labels of each example: sets of labels are too many to be shared out."""
        counts = targets.sum(1).astype(np.int64)
        values, sizes = np.unique(counts, return_counts=True)
        rare = values[sizes < 10]
        return np.where(np.isin(counts, rare), values[sizes.argmax()], counts)

    def by_group(self) -> bool:
        return False

    def rows(self, outputs: Any, targets: Tensor, threshold: float = 0.0) -> Rows | None:
        return (outputs - threshold, targets) if tuple(outputs.shape) == tuple(targets.shape) else None

    def measure(self, names: tuple[str, ...], outputs: Array, targets: Array) -> dict[str, float | None]:
        found: dict[str, float | None] = {}
        for name in names:
            number = number_of(name)
            if name == "mean_average_precision":
                found[name] = scores.mean_average_precision(outputs, targets)
            elif name == "macro_f1":
                found[name] = scores.multilabel_f(outputs, targets)
            elif name == "label_accuracy":
                found[name] = scores.label_accuracy(outputs, targets)
            elif name == "auc":
                found[name] = scores.multilabel_auc(outputs, targets)
            elif number is not None:
                found[name] = scores.multilabel_f(outputs, targets, number)
        return found

    def constant(self, targets: Array) -> Array:
        """Return the log odds of each label's share: above 0 where most examples have it."""
        shares = np.clip(targets.mean(0), 1e-6, 1 - 1e-6)
        return np.broadcast_to(np.log(shares / (1 - shares)), targets.shape)

    def per_example(self, outputs: Array, targets: Array) -> None:
        return None

    def picture(self, outputs: Array, targets: Array) -> dict[str, Any]:
        hits, given, wanted = scores.label_counts(outputs, targets)
        return {"labels": {"hits": hits.tolist(), "given": given.tolist(), "there": wanted.tolist()}}
