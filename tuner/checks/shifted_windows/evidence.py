"""Evidence of the measurement shifted_windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class ShiftedWindows(Evidence):
    """Blocks of val sequences, looked for at other places of train sequences.

    `shifted`: the share of `asked` with such a block; `agreeing`: of these, those with that sequence's label.
    """

    asked: int
    shifted: float
    agreeing: float | None = None
    first: Sequence[str] | None = None
