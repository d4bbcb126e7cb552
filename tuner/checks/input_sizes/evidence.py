"""Evidence of the measurement input_sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class InputSizes(Evidence):
    """Height and width of images: of val, and of the smallest and the largest of the first `batches` of train."""

    val: Sequence[int]
    smallest: Sequence[int]
    largest: Sequence[int]
    batches: int
