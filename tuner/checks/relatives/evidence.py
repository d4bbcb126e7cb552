"""Evidence of the measurement relatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class Relatives(Evidence):
    """How near the nearest train example of each val example is, for the dimension that examples fill further out.

    `rare`: the share of `asked` whose nearest is as near as chance gives in 1 of 1000, `hits`: how many;
    `agreeing`: of these, those with its label; `rare_in_train`: the same among train examples; `rank`: the
    neighbour it is judged against; `equal`: examples left out as copies; `first`: a pair of places.
    """

    asked: int
    train: int
    dimension: float
    hits: int
    rare: float
    rank: int = 10
    rare_in_train: float = 0.0
    equal: int = 0
    agreeing: float | None = None
    first: Sequence[str] | None = None
