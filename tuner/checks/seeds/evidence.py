"""Evidence of the measurement seeds."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class Seeds(Evidence):
    """Two models that were asked for with different seeds.

    `same_object`: build handed out one model twice; `equal`: all `parameters` are equal to the last digit.
    """

    same_object: bool
    equal: bool
    parameters: int
