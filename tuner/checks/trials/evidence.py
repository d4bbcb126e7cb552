"""Evidence of the measurement trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class Failure:
    """Why a trial failed."""

    kind: str
    message: str = ""


@dataclass(frozen=True)
class Trials(Evidence):
    """The trials that failed, in their order. `kind`: oom, timeout, crash, user-code or data."""

    failures: Sequence[Failure] = ()
