"""Evidence of the measurement confirming."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class ArmAnswer:
    """What one arm gave, beside its control. Accuracies are means over `runs` seeds; `noise`: of the `gain`.

    `fresh`: it started from new weights; `helps`: the gain is beyond twice the noise, and more than a point.
    """

    arm: str
    helps: bool
    changes: Mapping[str, Any] = field(default_factory=dict)
    fresh: bool = False
    runs: int = 0
    trials: Sequence[str] = ()
    accuracy: float | None = None
    control: float | None = None
    gain: float | None = None
    noise: float | None = None


@dataclass(frozen=True)
class Confirming(Evidence):
    """The confirming runs by arm: what each changed, and whether that helped; None where none was made, and `why`.

    `dropout_in_recipe`: the recipe has a key for the dropout, so that it can be changed there.
    """

    runs: Mapping[str, ArmAnswer] | None = None
    why: str | None = None
    dropout_in_recipe: bool = False
