"""Evidence of the measurement hardware."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class Hardware(Evidence):
    """What the device can compute in: `short`: its short format; `multiply_adds`: of a forward of one train batch;
    `grouped`: there are convolutions in groups.
    """

    short: str | None
    multiply_adds: int
    grouped: bool = False
