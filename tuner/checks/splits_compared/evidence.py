"""Evidence of the measurement splits_compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class Shift:
    """Of one channel or column: the difference of means (`mean`) and of spreads within (`within`), and their z.

    `ordered`: the values rise or fall with the place of the example in train, as a row's number does.
    """

    mean: float
    z: float
    within: float = 0.0
    within_z: float = 0.0
    ordered: bool = False


@dataclass(frozen=True)
class SplitsCompared(Evidence):
    """Train and val, as many of each class, both through the val pipeline.

    `shifts`: per channel or column, of means and of spreads within an example: the difference over its spread over
    examples, and its z. `separability`: the area under the ROC curve of a linear classifier between the splits
    (0.5: none); None where it was not asked. `augmented_by_itself`: two reads of an example differ.
    """

    train: int
    val: int
    shifts: Sequence[Shift]
    separability: float | None = None
    augmented_by_itself: bool = False
    is_image: bool = False
