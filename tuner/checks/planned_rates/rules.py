"""Rules over the schedule, simulated through the whole planned run (check-init): codes IN14x."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from tuner.checks.cards import Missing, found, number, rule
from tuner.checks.limits import Limit
from tuner.checks.planned_rates.evidence import PlannedRates, PlannedRun
from tuner.core.result import Finding, Severity

STOPPED = Limit("stopped", 0.2, "of the run", "derived: a run whose lr is gone by then has hardly trained")
FADED = Limit("faded", 0.5, "of the run", "zoo: usual schedules keep some of the lr for longer")
IDLE = Limit("idle", 0.05, "of the run", "derived: an update or two with lr 0 are usual")
HALF_WAY = Limit("half way", 0.52, "of the run", "Smith 2018: a cycle rises for 30 to 50 % of the run")
FLAT = Limit("flat", 0.02, "of the highest lr", "derived: no annealing that anybody means")
HIGH = Limit("high", 10.0, "times the recipe's lr", "PyTorch: OneCycleLR divides its highest lr by 25 at the start")
SWING = Limit("swing", 0.5, "of the highest lr", "derived: less is a decay that wavers")
PER_EPOCH = Limit(
    "per epoch", 1.5, "swings per epoch", "Loshchilov and Hutter 2017: restarts come once per epoch at most"
)
SOURCE = "diagnosis literature: simulate the schedule; Karpathy: do not trust learning rate decay defaults"
Seen = tuple[Severity, str] | None


def _runs(planned: PlannedRates, sound: bool = True) -> list[tuple[str, PlannedRun]]:
    """Return the simulated runs, the longest first; `sound`: those with finite rates above 0 only."""
    runs = sorted(planned.runs.items(), key=lambda pair: -pair[1].steps)
    kept = [(stage, run) for stage, run in runs if not sound or number(run.dead_from) is not None]
    if not kept:
        raise Missing("the schedule gives no finite rate above 0")
    return kept


def _about(stage: str, run: PlannedRun) -> dict[str, Any]:
    skip = ("rates", "places")
    return {"stage": stage, **{key: value for key, value in asdict(run).items() if key not in skip}}


def _first(code: str, planned: PlannedRates, seen: Callable[[PlannedRun], Seen]) -> Finding | None:
    """Report what is seen in the longest run; what only a shorter one shows is a note."""
    for place, (stage, run) in enumerate(_runs(planned)):
        if (answer := seen(run)) is None:
            continue
        severity, text = answer
        title = f"over {stage}'s {run.epochs} epochs, {text}"
        return found(code, "note" if place else severity, title, evidence=_about(stage, run))
    return None


@rule(
    "IN140",
    "schedule-mistake",
    "check-init",
    meaning="The schedule takes the learning rate away long before the planned run ends, or starts with none.",
    detected="The schedule is stepped through the whole run that coarse and fine plan: the rate stays below 1 % of "
    f"its highest from {FADED:.0%} of the run or earlier, or is 0 for the first {IDLE:.0%}. An error where it is gone "
    f"within the first {STOPPED:.0%}.",
    why="Updates with such a rate change nothing: most of the run is wasted, and the curves freeze.",
    fix='Durations are in updates unless schedule.every = "epoch"; let decay end where the run ends.',
    confused_with="Step decay late in the run, and the end of a cosine or a cycle, which go below 1 % too.",
    source=SOURCE,
)
def rate_fades(planned: PlannedRates) -> Finding | None:

    def seen(run: PlannedRun) -> Seen:
        if run.dead_from is not None and run.dead_from <= FADED:
            severity: Severity = "error" if run.dead_from <= STOPPED else "warn"
            return severity, f"the rate is below 1 % of its highest from {run.dead_from:.1%} of the run on"
        if run.zero_until is not None and run.zero_until >= IDLE:
            return "warn", f"the rate is 0 for the first {run.zero_until:.0%} of the run"
        return None

    return _first("IN140", planned, seen)


@rule(
    "IN141",
    "schedule-mistake",
    "check-init",
    meaning="The warm-up takes most of the planned run.",
    detected="In the simulated run the rate starts below half of its highest and reaches that after half of the run.",
    why="The rate that was chosen is hardly ever used; the run is short of what it was planned for.",
    fix="Shorten the warm-up to a tenth of the run or less, or plan a longer run.",
    confused_with="A one-cycle schedule, whose rise is 30 % to 50 % of the run.",
    source="Google tuning playbook: warm-up of at most a tenth of the run",
)
def long_warmup(planned: PlannedRates) -> Finding | None:

    def seen(run: PlannedRun) -> Seen:
        if run.first is None or run.peak is None or run.first >= 0.5 * run.peak:
            return None
        if run.peak_until is None or run.peak_until <= HALF_WAY:
            return None
        return "warn", f"the rate rises for the first {run.peak_until:.0%} of the run"

    return _first("IN141", planned, seen)


@rule(
    "IN142",
    "schedule-mistake",
    "check-init",
    meaning="The learning rate swings up and down within epochs, or climbs again after a cosine has ended.",
    detected=f"Swings of at least {SWING:.0%} of the highest rate in the simulated run, more than {PER_EPOCH:g} per "
    "epoch; or a CosineAnnealingLR that is stepped on beyond its T_max.",
    why="A period counted in epochs but stepped per update gives noise in place of annealing.",
    fix='Give the schedule the run\'s updates (total_steps), or set schedule.every = "epoch".',
    confused_with="Warm restarts and cycles of an epoch or longer, which are meant.",
    source=SOURCE,
)
def rate_swings(planned: PlannedRates) -> Finding | None:
    cosine = planned.kind == "CosineAnnealingLR"

    def seen(run: PlannedRun) -> Seen:
        if run.rises >= 3 and run.rises_per_epoch > PER_EPOCH:
            return (
                "warn",
                f"the rate falls and rises {run.rises} times, {run.rises_per_epoch:.3g} times per epoch",
            )
        if cosine and run.rises:
            return "warn", f"the cosine ends before the run does and comes back up {run.rises} times"
        return None

    return _first("IN142", planned, seen)


@rule(
    "IN143",
    "schedule-mistake",
    "check-init",
    meaning="A schedule is named, but over the planned run it leaves the rate as it is.",
    detected=f"The simulated rate changes by less than {FLAT:.0%}, though the schedule is not a constant one; or a "
    f"CosineAnnealingLR keeps more than {SWING:.0%} of the rate to the end.",
    why="The annealing that was meant does not take place: late training stays noisy.",
    fix="Milestones and T_max belong to the run's length; check whether they count epochs or updates.",
    confused_with="A constant rate by choice: name it constant. A schedule that watches the val loss is not simulated.",
    source=SOURCE,
    explained_by=("IN140", "IN145", "IN147"),
)
def no_effect(planned: PlannedRates) -> Finding | None:
    if "const" in str(planned.name).lower():
        return None
    stage, run = _runs(planned)[0]
    peak, final = run.peak or 0.0, run.final or 0.0
    if run.range is not None and run.range < FLAT:
        title = f"{planned.name} leaves the rate as it is over {stage}'s {run.epochs} epochs"
    elif planned.kind == "CosineAnnealingLR" and final > SWING * peak and not run.rises:
        title = f"the cosine ends {stage}'s {run.epochs} epochs at {final / peak:.0%} of the rate"
    else:
        return None
    return found("IN143", "warn", title, evidence=_about(stage, run))


@rule(
    "IN144",
    "schedule-mistake",
    "check-init",
    meaning="The schedule fails, or gives a rate that cannot be meant.",
    detected="In the simulated run the schedule raises, or the rate is not finite, negative, 0 throughout, or rises "
    f"above {HIGH:g} times the recipe's.",
    why="Training stops there, stands still, or diverges.",
    fix="Give the schedule the run's total_steps; factors multiply the recipe's rate.",
    confused_with="A one-cycle schedule with a highest rate of its own, up to ten times the recipe's.",
    source=SOURCE,
)
def impossible_rate(planned: PlannedRates) -> Finding | None:
    for stage, run in _runs(planned, sound=False):
        peak, about = number(run.peak), _about(stage, run)
        if run.raised:
            return found("IN144", "error", f"the schedule fails {run.raised}", evidence=about)
        if not run.finite or peak is None or run.lowest is None:
            return found("IN144", "error", f"a rate of {stage}'s run is not finite", evidence=about)
        if run.lowest < 0:
            return found("IN144", "error", f"the rate becomes negative in {stage}'s run", evidence=about)
        if peak <= 0:
            return found("IN144", "error", f"the rate is 0 throughout {stage}'s run", evidence=about)
        if peak > HIGH * 1.01:
            title = f"the rate rises to {peak:.3g} times the recipe's in {stage}'s run"
            return found("IN144", "warn", title, evidence=about)
    return None


@rule(
    "IN145",
    "schedule-mistake",
    "check-init",
    meaning="The schedule, or the optimizer, sets rates of its own and ignores optimizer.lr.",
    detected="The simulation is repeated with the recipe's rate doubled: the rates must follow, and stay as they "
    "are. A warning where the optimizer has the same rate before any schedule, a note where the schedule sets it.",
    why="lr-sweep's choice and a search over optimizer.lr have no effect on training.",
    fix="Build the schedule from the optimizer's rate (group['lr']) in place of a number.",
    confused_with="A highest rate that is fixed on purpose; then leave optimizer.lr out of the search.",
    source="derived",
)
def ignores_the_rate(planned: PlannedRates) -> Finding | None:
    stage, run = _runs(planned)[0]
    if run.follows_recipe:
        return None
    if not planned.optimizer_follows:
        title = "twice the recipe's rate gives an optimizer with the same rate: it ignores optimizer.lr"
        return found("IN145", "warn", title, evidence=_about(stage, run))
    title = f"twice the recipe's rate gives the same rates: {planned.name} ignores optimizer.lr"
    return found("IN145", "note", title, evidence=_about(stage, run))
