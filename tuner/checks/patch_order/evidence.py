"""Evidence of the measurement patch_order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class PatchOrder(Evidence):
    """How much the fresh model's outputs change when the parts of an image change places.

    `differ`: by the side of the square patches in pixels, the largest change over the outputs' spread over examples.
    `pixels`: the same when single pixels change places. `sides`: height and width.
    """

    differ: Mapping[str, float | None]
    pixels: float | None
    sides: tuple[int, int]
