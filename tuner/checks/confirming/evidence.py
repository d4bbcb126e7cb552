"""Evidence of the measurement confirming."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuner.checks.evidence import Evidence
from tuner.core.metrics import ConfirmingRun


@dataclass(frozen=True)
class Confirming(Evidence):
    """The confirming runs by arm: what each changed, and whether that helped; None where none was made, and `why`.

    `dropout_in_recipe`: the recipe has a key for the dropout, so that it can be changed there.
    """

    runs: Mapping[str, ConfirmingRun] | None = None
    why: str | None = None
    dropout_in_recipe: bool = False
