"""Evidence of the measurement val_predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class Answers:
    """How many answers are right and wrong, and the mean of their largest class probability.

    `auroc`: in which share of all pairs of a right and a wrong answer the right one is surer.
    """

    right: int
    wrong: int
    sure_when_right: float | None = None
    sure_when_wrong: float | None = None
    auroc: float | None = None


@dataclass(frozen=True)
class ValPredictions(Evidence):
    """What the trained model says about val, example by example.

    `bits`: one per example of the split, in its order, packed (the first in the highest bit of the first byte),
    base64: right or not; `n`: how many. `values`: where answers are more than that, how good each is (larger is
    better), float32, base64. `recall`: per class, None where val has none of it. `areas`: per class, the share of all
    pairs of one of its examples and one of another class in which its own has the larger probability of it (area
    under the ROC curve), None where there is no pair. `answers`: how sure right and wrong answers are, by split (val,
    train). `parameters`: of the model.
    """

    n: int | None = None
    bits: str | None = None
    values: str | None = None
    parameters: int | None = None
    class_counts: Sequence[int] | None = None
    recall: Sequence[float | None] | None = None
    areas: Sequence[float | None] | None = None
    answers: Mapping[str, Answers] | None = None
