"""Evidence of the measurement rescaled_start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class Start:
    """The lowest loss reached, in how many steps, and whether it is clearly below that of a constant output."""

    lowest: float | None
    steps: int
    learns: bool


@dataclass(frozen=True)
class RescaledStart(Evidence):
    """Training on a few batches as initialised and with every layer rescaled, where the signal fades with depth.

    `left`: the spread over examples after the last hidden layer over that after the first; `tried`: it was so small
    that both were trained, at each of `rates`; `level`: the loss of a constant output.
    """

    left: float | None
    tried: bool
    level: float | None = None
    rates: Sequence[float] = ()
    as_is: Start | None = None
    rescaled: Start | None = None
