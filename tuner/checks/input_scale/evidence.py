"""Evidence of the measurement input_scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class InputScale(Evidence):
    """The inputs as the model gets them, per channel or column, and whether their scale matters to it.

    `spread_ratio`: how much more the fresh model's outputs vary over the examples than on the same batch
    standardised (None: they do not vary). `normalize`: what the recipe says.
    """

    mean: Sequence[float | None]
    std: Sequence[float | None]
    min: float | None
    max: float | None
    spread_ratio: float | None
    normalize: Any = None
