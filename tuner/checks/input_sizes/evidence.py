"""Evidence of the measurement input_sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class InputSizes(Evidence):
    """Height and width of images: of val, and of the smallest and the largest of the first `batches` of train.

    `rougher`: how much more neighbouring pixels of train differ than those of val, over the images' spread: about 1 of
    a piece that is cut out, more of an image that was made smaller. None: not known.
    """

    val: Sequence[int]
    smallest: Sequence[int]
    largest: Sequence[int]
    batches: int
    rougher: float | None = None
