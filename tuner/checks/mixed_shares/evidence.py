"""Evidence of the measurement mixed_shares."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class MixedShares(Evidence):
    """Examples that augmentation mixed with another of their batch, and labels that are shares of two classes.

    `examples`: of which it is seen what they are made of; `correlation`, over these: between the share that the
    example's own class has of the label, and the share that the example has of the values.
    """

    examples: int
    correlation: float | None
