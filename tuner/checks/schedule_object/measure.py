"""What a schedule says of itself: how many steps it was made for, and which way it watches."""

from __future__ import annotations

from collections.abc import Mapping

from torch.optim.lr_scheduler import ReduceLROnPlateau

from tuner.checks.schedule_object.evidence import ScheduleObject
from tuner.checks.tools.frame import before_training, fresh_model, fresh_optimizer
from tuner.train.scheduling import Schedule
from tuner.train.setup import Setup

LENGTHS = ("total_steps", "T_max", "total_iters")  # as torch's schedulers call the number of steps that they last


@before_training
def schedule_object(setup: Setup, horizons: Mapping[str, int] | None = None) -> ScheduleObject:
    """Read the schedule's own length and mode, for the longest planned run (`horizons`: stage -> epochs)."""
    stage, epochs = max((horizons or {"fine": 15}).items(), key=lambda item: item[1])
    steps_per_epoch = max(1, setup.data.steps_per_epoch(setup.spec.tables["train"]["batch_size"]))
    optimizer = fresh_optimizer(setup, fresh_model(setup))
    schedule = setup.schedule(optimizer, epochs * steps_per_epoch, steps_per_epoch)
    by_epoch = setup.schedule_every == "epoch"
    return ScheduleObject(
        kind=type(schedule).__name__,
        stage=stage,
        epochs=epochs,
        every=setup.schedule_every,
        steps_per_epoch=steps_per_epoch,
        made_for=_length(schedule),
        stepped=epochs if by_epoch else epochs * steps_per_epoch,
        mode=schedule.mode if isinstance(schedule, ReduceLROnPlateau) else None,
    )


def _length(schedule: Schedule) -> int | None:
    """Return the steps that a scheduler lasts: its own, or in a chain those of its longest part."""
    parts = [length for part in getattr(schedule, "_schedulers", ()) if (length := _length(part)) is not None]
    own = [value for name in LENGTHS if isinstance(value := getattr(schedule, name, None), int)]
    return max([*own, *parts], default=None)
