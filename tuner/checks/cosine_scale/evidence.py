"""Evidence of the measurement cosine_scale."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class CosineScale(Evidence):
    """A head whose outputs are cosines. `scale`: what the loss multiplies them with, as its steepest slope shows;
    `fitted`: AdaCos's fixed scale for so many `classes`, sqrt(2) log(classes - 1).
    """

    classes: int
    scale: float
    fitted: float
