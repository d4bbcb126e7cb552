"""Evidence of the measurement image_layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class ImageLayout(Evidence):
    """How alike neighbouring pixels are, and channels at one place: [correlation of pixels, of channels].

    `smooth`: as the images come; `undone`: with the values read as height, width, channels.
    """

    smooth: Sequence[float]
    undone: Sequence[float]
    examples: int = 0
