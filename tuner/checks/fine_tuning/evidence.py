"""Evidence of the measurement fine_tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class FineTuning(Evidence):
    """The batch norms of the frozen part, in the first epoch.

    `moving`: frozen and yet in train mode, where their statistics follow each batch; named. `kept`: how many are in
    eval mode with statistics of another training. `off`, at `layer`: of those kept the one whose inputs fit its
    statistics least: how many times wider than these (or how many of their standard deviations beside them) the median
    channel is.
    """

    moving: Sequence[str] = ()
    kept: int = 0
    off: float | None = None
    layer: str | None = None
