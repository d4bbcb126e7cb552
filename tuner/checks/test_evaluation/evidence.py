"""Evidence of the measurement test_evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class TestEvaluation(Evidence):
    """The winner on the test split, once, in fp32. `confusion[i][j]`: examples of class i taken for class j.

    `non_finite`: examples without a finite answer; `val_accuracy`, `val_n`: what val said of the winner; `error`:
    why there is no accuracy.
    """

    n: int | None = None
    accuracy: float | None = None
    loss: float | None = None
    confusion: Sequence[Sequence[int]] | None = None
    class_names: Sequence[str] = ()
    non_finite: int | None = None
    first_non_finite: str | None = None
    val_accuracy: float | None = None
    val_n: int | None = None
    error: str | None = None
