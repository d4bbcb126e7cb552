"""Evidence of the measurement image_axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class ImageAxes(Evidence):
    """What the axes of an image are taken for. `shape`: of one image as the model gets it, (C, H, W) as tuner has it.

    `channels`: the input channels of the first two-dimensional convolution that the fresh model runs; None without one.
    `plain_layout`: the model fails on channels-last images and is trained in the plain layout. `smooth`, `undone`: as
    in ImageLayout, of what that convolution is given; None where the model hands it the images as they are.
    """

    shape: Sequence[int]
    channels: int | None = None
    plain_layout: bool = False
    smooth: Sequence[float] | None = None
    undone: Sequence[float] | None = None
