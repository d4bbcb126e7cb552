"""Evidence of the measurement continued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class Continued(Evidence):
    """A few epochs more from the winner's weights: the rows of the curve, and whether it diverged."""

    epochs: int
    diverged: bool
    curve: Sequence[Mapping[str, Any]] = ()
