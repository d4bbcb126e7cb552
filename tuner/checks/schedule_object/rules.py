"""Rules over what a schedule says of itself (check-init): codes IN165 and IN166."""

from __future__ import annotations

from tuner.checks.cards import found, rule
from tuner.checks.limits import Limit
from tuner.checks.schedule_object.evidence import ScheduleObject
from tuner.core.result import Finding

UNFINISHED = Limit(
    "unfinished",
    2.0,
    "times the steps that it gets",
    "zoo: runs planned a little shorter than their schedule are common",
)


@rule(
    "IN165",
    "schedule-mistake",
    "check-init",
    meaning="The schedule was made for many more steps than it will be given: it never gets past its beginning.",
    detected="The object's own length (total_steps, T_max, total_iters, or those of its parts) is more than "
    f"{UNFINISHED:g} times the number of times that it is stepped over the longest planned run.",
    why="A length in updates with one step per epoch stays in the warm-up: the rate that was meant is never reached.",
    fix='Leave schedule.every at "step" for lengths in updates, or give the schedule the run\'s epochs.',
    confused_with="A schedule that is longer than the run on purpose, of which the beginning alone is wanted.",
    source="pytorch issue 65417 (OneCycleLR stepped by epochs); PyTorch documentation, OneCycleLR: step after a batch",
)
def cannot_finish(answer: ScheduleObject) -> Finding | None:
    if answer.made_for is None or answer.made_for <= UNFINISHED * answer.stepped:
        return None
    per = "epoch" if answer.every == "epoch" else "update"
    title = (
        f"{answer.kind} is made for {answer.made_for} steps and stepped {answer.stepped} times, "
        f"once per {per}, over {answer.stage}'s {answer.epochs} epochs"
    )
    return found("IN165", "warn", title, evidence=answer.to_json())


@rule(
    "IN166",
    "schedule-mistake",
    "check-init",
    meaning="The schedule waits for the loss to rise.",
    detected='ReduceLROnPlateau has mode "max", and what it is told is a loss.',
    why="A loss that falls as it should looks like a plateau: the rate is lowered again and again until nothing moves.",
    fix='Set mode = "min" (the default).',
    confused_with='A schedule that is told an accuracy, for which "max" is right: here it is told the loss.',
    source="PyTorch documentation, ReduceLROnPlateau: in max mode it is reduced when the quantity stops increasing",
)
def watches_the_wrong_way(answer: ScheduleObject) -> Finding | None:
    if answer.mode != "max":
        return None
    title = 'ReduceLROnPlateau has mode "max" and is told a loss: it lowers the rate while the loss falls'
    return found("IN166", "warn", title, evidence=answer.to_json())
