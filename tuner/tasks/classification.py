"""One class per example, or one per position (pixels, tokens)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.core.errors import UsageError
from tuner.tasks import scores
from tuner.tasks.base import Array, Rows, Tensor, number_of

IGNORED = -100  # torch's own: a position with this target has no class


def class_numbers(values: Any, where: str) -> Array:
    """Return whole numbers as int64.

    Raises:
        UsageError: "real numbers", "not numbers".
    """
    array = np.asarray(values)
    if array.dtype.kind == "f":
        raise UsageError(
            f"{where}: the targets are real numbers ({array.dtype}{_first_broken(array)}); "
            "tuner needs one integer class per example",
            "If they are classes, make them whole numbers (int64); if they are quantities, "
            'set data.task = "regression".',
        )
    if array.dtype.kind not in "biu":
        found = array.ravel()[0] if array.size else array.dtype
        raise UsageError(
            f"{where}: the targets are not numbers ({type(found).__name__} {str(found)!r}); "
            "tuner needs one integer class per example",
            "Number the classes from 0: np.unique(targets, return_inverse=True)[1] does, of all splits together.",
        )
    return array.astype(np.int64)


def _first_broken(array: Array) -> str:
    broken = np.flatnonzero(~(array.ravel() % 1 == 0))
    return f", e.g. {array.ravel()[broken[0]].item()} at {broken[0]}" if len(broken) else ""


def largest_plus_one(targets: tuple[Array, ...]) -> int:
    return max(int(part.max()) for part in targets if part.size) + 1


OF_COUNTS = {
    "balanced_accuracy": scores.balanced_accuracy,
    "macro_f1": scores.macro_f,
    "weighted_f1": scores.weighted_f1,
}


def is_counted(name: str) -> bool:
    """Return whether a score follows from the confusion alone."""
    return name in OF_COUNTS or name.startswith("f_")


def measure_counts(names: tuple[str, ...], counts: Array) -> dict[str, float | None]:
    """Return scores by name of a confusion; None for each where there is no example."""
    if not counts.sum():
        return dict.fromkeys(names)
    return {
        name: OF_COUNTS[name](counts) if name in OF_COUNTS else scores.f_beta(counts, number_of(name) or 1.0)
        for name in names
    }


def measure_rows(names: tuple[str, ...], outputs: Array, targets: Array) -> dict[str, float | None]:
    """Return scores by name of (M, C) class scores and (M,) classes."""
    if not len(targets):
        return dict.fromkeys(names)
    found = measure_counts(tuple(filter(is_counted, names)), scores.confusion_of(outputs, targets))
    for name in names:
        if name == "accuracy":
            found[name] = float((outputs.argmax(1) == targets).mean())
        elif name == "auc":
            found[name] = scores.roc_auc(outputs, targets)
        elif name.startswith("top_"):
            found[name] = scores.top_k(outputs, targets, int(number_of(name) or 1))
    return found


def prior_outputs(targets: Array, classes: int) -> Array:
    """Return one row of outputs, the log of the classes' shares, for every target."""
    shares = np.bincount(targets, minlength=classes) / max(1, len(targets))
    return np.broadcast_to(np.log(np.maximum(shares, 1e-12)), (len(targets), len(shares)))


@dataclass(frozen=True)
class Classification:
    """One class per example: targets (N,), outputs (N, C); with two classes also (N,) or (N, 1)."""

    name: str = "classification"
    score: str = "accuracy"
    always: tuple[str, ...] = ("accuracy",)
    scores: tuple[str, ...] = (
        "accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "f_beta", "top_k", "auc",
    )  # fmt: skip
    noun: str = "class"

    def as_targets(self, values: Any, where: str) -> Array:
        array = np.asarray(values)
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim > 1:
            raise UsageError(
                f"{where}: the targets have shape {array.shape}, which looks one-hot or multi-hot; "
                "tuner needs one integer class per example",
                "For one-hot targets return targets.argmax(1); several labels per example are "
                'data.task = "multilabel".',
            )
        if array.ndim == 0:
            raise UsageError(
                f"{where}: the targets are a single value ({array})", "Give one integer class per example."
            )
        return class_numbers(array, where)

    def width(self, *targets: Array) -> int:
        return largest_plus_one(targets)

    def strata(self, targets: Array) -> Array:
        return targets

    def by_group(self) -> bool:
        return False

    def rows(self, outputs: Any, targets: Tensor, threshold: float = 0.0) -> Rows | None:
        if targets.ndim != 1 or outputs.ndim not in (1, 2) or len(outputs) != len(targets):
            return None
        if outputs.ndim == 2 and outputs.shape[1] > 1:
            return outputs, targets
        return two_columns(outputs.reshape(-1), threshold), targets

    def measure(self, names: tuple[str, ...], outputs: Array, targets: Array) -> dict[str, float | None]:
        return measure_rows(names, outputs, targets)

    def constant(self, targets: Array) -> Array:
        return prior_outputs(targets, largest_plus_one((targets,)))

    def per_example(self, outputs: Array, targets: Array) -> Array:
        return (outputs.argmax(1) == targets).astype(np.float64)

    def picture(self, outputs: Array, targets: Array) -> dict[str, Any]:
        return {"confusion": scores.confusion_of(outputs, targets).tolist()}


def two_columns(single: Tensor, threshold: float) -> Tensor:
    """Return class scores (M, 2) of single scores (M,), which say class 1 above the threshold."""
    pair = (single - threshold)[:, None].repeat(1, 2)
    pair[:, 0] = 0.0
    return pair


@dataclass(frozen=True)
class Positions:
    """One class per position: targets (N, ...), outputs (N, C, ...), or (N, ..., C) as token models give them.

    A position whose target is `ignore_index` has no class. With two classes also (N, ...) or (N, 1, ...).
    """

    ignore_index: int = IGNORED
    name: str = "classification"
    score: str = "accuracy"
    always: tuple[str, ...] = ("accuracy", "balanced_accuracy")
    scores: tuple[str, ...] = ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "f_beta", "top_k", "auc")
    noun: str = "class"

    def as_targets(self, values: Any, where: str) -> Array:
        array = class_numbers(values, where)
        if array.ndim < 2:
            raise UsageError(f"{where}: the targets have shape {array.shape}: one class per example, not per position")
        return array

    def width(self, *targets: Array) -> int:
        return largest_plus_one(tuple(part[part != self.ignore_index] for part in targets))

    def strata(self, targets: Array) -> Array:
        return np.zeros(len(targets), dtype=np.int64)

    def by_group(self) -> bool:
        return False

    def rows(self, outputs: Any, targets: Tensor, threshold: float = 0.0) -> Rows | None:
        classes_last = _classes_last(outputs, targets)
        if classes_last is None:
            return None
        flat, wanted = classes_last.reshape(-1, classes_last.shape[-1]), targets.reshape(-1)
        kept = wanted != self.ignore_index
        flat, wanted = flat[kept], wanted[kept]
        return (two_columns(flat[:, 0], threshold) if flat.shape[1] == 1 else flat), wanted

    def measure(self, names: tuple[str, ...], outputs: Array, targets: Array) -> dict[str, float | None]:
        return measure_rows(names, outputs, targets)

    def constant(self, targets: Array) -> Array:
        return prior_outputs(targets, largest_plus_one((targets,)))

    def per_example(self, outputs: Array, targets: Array) -> None:
        return None

    def picture(self, outputs: Array, targets: Array) -> dict[str, Any]:
        return {"confusion": scores.confusion_of(outputs, targets).tolist()}


def _classes_last(outputs: Tensor, targets: Tensor) -> Tensor | None:
    """Return outputs as (N, ..., C); None where their shape fits the targets in no way."""
    wanted = tuple(targets.shape)
    if outputs.ndim == targets.ndim + 1 and outputs.shape[0] == wanted[0]:
        if tuple(outputs.shape[2:]) == wanted[1:]:
            return outputs.movedim(1, -1)
        if tuple(outputs.shape[1:-1]) == wanted[1:]:
            return outputs
    return outputs[..., None] if tuple(outputs.shape) == wanted else None
