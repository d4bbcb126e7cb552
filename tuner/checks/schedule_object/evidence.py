"""Evidence of the measurement schedule_object."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class ScheduleObject(Evidence):
    """What the schedule says of itself, for the longest planned run: `stage`, with `epochs` of `steps_per_epoch`.

    `made_for`: the steps that the object, or the longest one inside it, lasts (None: no end of its own); `stepped`:
    how often it is stepped over that run. `mode`: of ReduceLROnPlateau, min or max.
    """

    kind: str
    stage: str
    epochs: int
    every: str
    steps_per_epoch: int
    stepped: int
    made_for: int | None = None
    mode: str | None = None
