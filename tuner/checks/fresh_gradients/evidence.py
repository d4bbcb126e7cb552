"""Evidence of the measurement fresh_gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class FreshGradients(Evidence):
    """Three updates on one batch with the rate at 0: each should see the same gradient.

    `ratios`: the norm of each update's gradient over the first one's; 1, 2, 3 means that they add up. `cosines`:
    with the first. `growing`: parameters whose own gradients add up; `rounded`: weights left with far fewer values.
    """

    ratios: Sequence[float | None]
    cosines: Sequence[float | None]
    growing: Sequence[str] = ()
    rounded: Sequence[str] = ()
