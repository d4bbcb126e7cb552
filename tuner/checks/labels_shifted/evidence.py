"""Evidence of the measurement labels_shifted."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class LabelsShifted(Evidence):
    """The kernel classifier's accuracy on the labels as stored, and on those of the neighbours in the split's order."""

    n: int
    own: float | None
    before: float | None
    after: float | None
