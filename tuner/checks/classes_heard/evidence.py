"""Evidence of the measurement classes_heard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class ClassesHeard(Evidence):
    """Which classes the loss hears, asked with batches of one class each.

    `unheard`: label -> its share of train, of those for which no output has a gradient; `asked`: how many were
    asked.
    """

    unheard: Mapping[str, float]
    asked: int
