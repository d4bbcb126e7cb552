"""Evidence of the measurement linearity."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class Linearity(Evidence):
    """Whether the model is an affine function of its input: the largest deviation over the outputs' spread.

    `weights`: how many weight tensors it has. `depth`: how many of them stand in a row, by how much the outputs spread
    more with all of them doubled: 1 where they stand side by side.
    """

    deviation: float | None
    weights: int
    depth: float | None = None
