"""Evidence of the measurement targets_in_sight."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class TargetsInSight(Evidence):
    """Words to predict that are among the words given.

    `ahead`: how many places further on the target of a position stands among its own inputs (0: at the position
    itself; None: nowhere near); `share`: for how many positions; `read`: of `asked` positions, those whose output
    changes with the word in that place.
    """

    ahead: int | None = None
    share: float = 0.0
    read: int = 0
    asked: int = 0
