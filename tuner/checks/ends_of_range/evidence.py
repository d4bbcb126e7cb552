"""Evidence of the measurement ends_of_range."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class EndsOfRange(Evidence):
    """Coloured pixels of train images, as loaded: those whose channels differ.

    `coloured`: their share of all pixels; `at_low`, `at_high`: of their values, those that are exactly the smallest and
    the largest of all; `levels`: how many different values they have; `examples`: images looked at.
    """

    examples: int
    coloured: float
    at_low: float
    at_high: float
    levels: int
