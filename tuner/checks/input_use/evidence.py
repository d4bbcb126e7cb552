"""Evidence of the measurement input_use."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class InputUse(Evidence):
    """The outputs of a shaken model on real examples: the largest difference to the first one's, to those on zeroed
    inputs, and the largest output.
    """

    varies: float | None
    changes_when_zeroed: float | None
    size: float | None = None
