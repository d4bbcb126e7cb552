"""Evidence of the measurement classes_augmented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class ClassesAugmented(Evidence):
    """A kernel classifier made on clean examples, asked about others of each class: [clean, augmented].

    `counts`: examples per class; `recall`; `taken_for`: the class that answers go to most where they did not
    without augmentation, and in `share_taken` its share; `rest`: how much more of the other classes goes to it, on
    average.
    """

    counts: Sequence[int]
    recall: Sequence[Sequence[float]]
    taken_for: Sequence[int]
    share_taken: Sequence[Sequence[float]]
    rest: Sequence[float]
    class_names: Sequence[str] = ()
