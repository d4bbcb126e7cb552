"""Evidence of the measurement augmentation."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class Augmentation(Evidence):
    """The first batches of an epoch with and without augmentation: the same examples in the same order.

    `augments`: whether the recipe augments; nothing else is known where it does not. Shares are of `examples`:
    `changed`; `mixed`: a weighted mean of itself and another example; `outweighed`: for the larger part another,
    without its label; `relabelled`; `blanked`: became a single value. `moved`: how many equal another example of
    the batch; `mispaired`: the share of these with a label that is not that example's. `shift`, `ratio`: of means
    in units of the clean spread, and of spreads. `clean`, `augmented`: accuracy of a kernel classifier made on one
    half of the clean examples, on the other half as it is and augmented; `relearned`: made on augmented ones as
    well; `chance`: the share of the largest class. `mirrored`: how many of those asked are mirror images or turns of
    the clean ones, and `of_mirrored` the accuracy on them of the classifier made on clean examples.
    """

    augments: bool
    examples: int = 0
    changed: float = 0.0
    moved: int = 0
    mispaired: float | None = None
    mixed: float = 0.0
    outweighed: float | None = None
    relabelled: float = 0.0
    finite: bool = True
    blanked: float = 0.0
    shift: float | None = 0.0
    ratio: float | None = 1.0
    clean: float | None = None
    augmented: float = 0.0
    relearned: float = 0.0
    chance: float = 0.0
    mirrored: int = 0
    of_mirrored: float | None = None
