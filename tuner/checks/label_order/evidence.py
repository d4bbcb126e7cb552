"""Evidence of the measurement label_order."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class LabelOrder(Evidence):
    """The labels of an epoch's first batches against batches drawn at random.

    `entropy`: mean over the batches, in nats; `expected`: what chance gives; `z`: standard errors between them;
    None where there are too few batches. `relabelled`: of `asked` examples, those given another label when asked
    for by their index than when first read. `distinct`: different examples among the `examples` looked at.
    `drawn_by_class`: every batch has as many of each of its classes, which do not follow from the batch before.
    """

    asked: int
    relabelled: int
    examples: int = 0
    distinct: int = 0
    batches: int = 0
    entropy: float | None = None
    expected: float | None = None
    z: float | None = None
    drawn_by_class: bool = False
