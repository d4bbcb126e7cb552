"""Evidence of the measurement test_evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class TestEvaluation(Evidence):
    """The winner on the test split, once, in fp32. `confusion[i][j]`: examples of class i taken for class j.

    `score`: the task's own, `score_interval`: its 95 % interval where it is no share of right answers, `others`: all
    scores and the loss; `residuals`, `labels`, `ranks`: what the picture shows. `non_finite`: examples without a
    finite answer; `mistakes`: wrong answers on val, the surest first, with their pictures; `val_accuracy`, `val_n`:
    what val said of the winner; `after`: the score of what `[after]` makes of the answers; `error`: why there is none.
    """

    n: int | None = None
    accuracy: float | None = None
    score: float | None = None
    score_name: str = "accuracy"
    score_interval: Sequence[float] | None = None
    others: Mapping[str, float] = field(default_factory=dict)
    residuals: Mapping[str, Sequence[float]] | None = None
    labels: Mapping[str, Sequence[int]] | None = None
    ranks: Sequence[float] | None = None
    loss: float | None = None
    confusion: Sequence[Sequence[int]] | None = None
    class_names: Sequence[str] | None = None
    non_finite: int | None = None
    first_non_finite: str | None = None
    after: Mapping[str, Any] = field(default_factory=dict)
    val_accuracy: float | None = None
    val_n: int | None = None
    error: str | None = None
    mistakes: Sequence[Mapping[str, Any]] = ()
