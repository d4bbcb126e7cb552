"""Evidence of the measurement unheard_mistakes."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class UnheardMistakes(Evidence):
    """The gradient of the loss at free outputs, drawn at random: `wrong` answers there are so many.

    `silent`: the share of them for which no output has a gradient, to the last bit; `silent_right`: of the others.
    """

    wrong: int
    silent: float | None = None
    silent_right: float | None = None
