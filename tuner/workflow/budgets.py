"""What a search will take, and the plan that a budget is turned into: made once, kept in the stage's folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tuner import stages
from tuner.core.errors import InputError, UsageError
from tuner.core.formatting import plural
from tuner.core.manifest import Provenance
from tuner.core.metrics import CheckInitMetrics, LrSweepMetrics
from tuner.core.result import Record
from tuner.core.stage_ref import StageRef
from tuner.core.store import StageDir, read_json, write_json
from tuner.core.trial import WorkItem
from tuner.recipe.space import Space
from tuner.search import scores
from tuner.search.budget import AIM, MOST_TRIALS, Bounds, Budget, Fit, Outline, fit, parse
from tuner.search.costs import (
    WRITING_SECONDS,
    Costs,
    Timed,
    cautious,
    disk_bytes,
    of_search,
    of_sweep,
    of_timing,
    size_of,
)
from tuner.stages import SearchSettings, StageSettings
from tuner.workflow import rounds
from tuner.workflow.freshness import Session
from tuner.workflow.work import Work

TIMED = 4  # configurations of the first search that are timed before a plan is made for them: of each size first
LOOKED_AT = 16  # configurations that a search begins with, of which the sizes are known
TIMED_SHARE, TIMED_STEPS = 0.04, (5, 100)  # of a budget that the timing takes; the least and most steps of each
SHORTEST = Bounds(least=1, enough=4, plenty=64, shortest=1, longest=20)  # where there is no time for a sensible search
CARRIED = 3  # best configurations of a search that the next one begins with: their epochs are what it takes
PAIR = 2  # configurations: the best of the search before, and what it is compared with
MORE = 2  # times the budget: what that would buy is said
NOT_TIMED = Timed()
KEYS = ("budget", "trials", "epochs", "rungs", "repeats", "epochs_in_all", "expected_seconds", "disk_bytes", "workers")


def bounds_in_a_run(settings: SearchSettings) -> Bounds:
    """Return the bounds of a search that is part of a run with a time: two trained to the end are better than none."""
    bounds = settings.BOUNDS
    return replace(bounds, least=min(PAIR, bounds.least)) if bounds.whole_length else bounds


def shortest(settings: SearchSettings) -> Bounds:
    """Return the bounds of a search where there is no time for a sensible one."""
    return replace(SHORTEST, whole_length=settings.BOUNDS.whole_length)


def timing_trials(session: Session, work: Work) -> list[WorkItem]:
    """Return two short runs of each of the first configurations of a search with a budget in time, for its plan.

    None are needed where a plan stands already, or where an earlier search tells what this one will take.
    """
    settings, ref = work.settings, work.ref
    if not isinstance(settings, SearchSettings) or settings.budget is None or _earlier_search(ref) is not None:
        return []
    budget = parse(settings.budget)
    if budget.unit != "seconds" or _standing(work.folder, session.provenance(ref)):
        return []
    if (costs := costs_of(session, ref, workers=1)) is None:
        return []
    train_size = session.metrics(CheckInitMetrics, ref.round).size("train") or 1
    batches = math.ceil(train_size / work.recipe.train.batch_size)
    affordable = TIMED_SHARE * budget.amount / TIMED * batches / costs.epoch_seconds
    steps = int(min(max(affordable, TIMED_STEPS[0]), TIMED_STEPS[1]))
    items = begins_with(work)
    one_of_each = {size_of(item.spec.overrides): item for item in reversed(items)}.values()  # the first of its size
    others = [item for item in items if item not in one_of_each]
    chosen = sorted([*reversed(one_of_each), *others][:TIMED], key=lambda item: item.number)
    return [
        WorkItem(replace(item.spec, horizon_epochs=None, horizon_steps=length, measure={}), item.number)
        for length in (max(1, steps // 10), steps)
        for item in chosen
    ]


def begins_with(work: Work) -> list[WorkItem]:
    """Return the configurations that a search begins with, whatever its budget will turn out to buy."""
    assert isinstance(work.settings, SearchSettings)
    return replace(work, settings=work.settings.planned(LOOKED_AT, work.settings.epochs)).plan([])[:LOOKED_AT]


def lacks_times(session: Session, ref: StageRef, settings: StageSettings) -> bool:
    """Return whether a budget in time cannot be planned yet, because nothing has measured what a step takes."""
    if not isinstance(settings, SearchSettings) or settings.budget is None:
        return False
    return parse(settings.budget).unit == "seconds" and costs_of(session, ref, workers=1) is None


def _earlier_search(ref: StageRef) -> StageRef | None:
    """Return the search before this one in the checklist; None for the first."""
    searches = stages.named("searches")
    place = searches.index(ref.stage)
    return ref.other(searches[place - 1]) if place else None


def planned(
    session: Session,
    ref: StageRef,
    settings: StageSettings,
    workers: int,
    timed: Timed = NOT_TIMED,
    within_a_run: bool = False,
) -> tuple[StageSettings, dict[str, Any] | None]:
    """Return the settings with the trials and epochs of the plan, and the plan; None for a stage that searches nothing.

    A stage with a budget whose plan was made from the same things keeps it, whatever time and workers there are now.
    `timed`: the results of `timing_trials`. `within_a_run`: the time is part of a whole run's, where the workers have
    started, and a search that is shorter than a sensible one is better than none. Nothing is written: `keep` does that.

    Raises:
        UsageError: the budget is less than the least sensible search takes.
    """
    if not isinstance(settings, SearchSettings):
        return settings, None
    if settings.budget is None:
        return settings, _forecast(settings, _known(session, ref, workers, timed))
    made_from = session.provenance(ref)
    plan = _standing(ref.folder(session.run), made_from)
    if plan is None:
        known = _known(session, ref, workers, timed)
        if within_a_run and known.costs is not None:
            known = replace(known, costs=replace(known.costs, fixed_seconds=WRITING_SECONDS))
        fitted = _fitted(session, ref, settings, known, within_a_run)
        plan = {**fitted, "made_from": vars(made_from)}
    return settings.planned(plan["trials"], plan["epochs"]), plan


def keep(folder: StageDir, plan: Mapping[str, Any] | None) -> None:
    """Write the plan of a budget into the stage's folder, before the first trial; without a budget none stays there."""
    if plan is not None and "made_from" in plan:
        write_json(folder.plan_path, plan)
    else:
        folder.plan_path.unlink(missing_ok=True)


def enlarge(session: Session, ref: StageRef, settings: SearchSettings, workers: int, seconds: float) -> dict[str, Any]:
    """Write into the plan that stands that the search is larger now, and takes so many seconds in all; return it."""
    folder = ref.folder(session.run)
    plan = {**read_json(folder.plan_path), **_forecast(settings, _known(session, ref, workers, NOT_TIMED))}
    plan["expected_seconds"] = round(seconds, 1)
    write_json(folder.plan_path, plan)
    return plan


def _standing(folder: StageDir, made_from: Provenance) -> dict[str, Any] | None:
    """Return the plan that stands in the folder, if it was made from the same things."""
    if not folder.plan_path.exists():
        return None
    plan = read_json(folder.plan_path)
    if lacking := [key for key in (*KEYS, "made_from") if key not in plan]:
        raise InputError(
            f"{folder.plan_path}: not what tuner wrote (it has no {lacking[0]!r})",
            f"Run {folder.label} again with --fresh.",
        )
    return None if made_from.differences(plan["made_from"], own_settings=True) else plan


@dataclass(frozen=True)
class Known:
    """What a plan rests on. `costs`: None where no step times are known; `most`: configurations that the space has."""

    workers: int
    costs: Costs | None
    most: int | None
    parameters: int


def _known(session: Session, ref: StageRef, workers: int, timed: Timed) -> Known:
    parameters = session.metrics(CheckInitMetrics, ref.round).parameters or 0
    return Known(workers, costs_of(session, ref, workers, timed), _most(session, ref), parameters)


def _forecast(settings: SearchSettings, known: Known) -> dict[str, Any]:
    """Say what a search takes with these settings; `expected_seconds` is None where no step times are known."""
    costs = known.costs
    outline = settings.planned(min(settings.trials, known.most or settings.trials), settings.epochs).outline()
    return {
        "budget": settings.budget,
        "trials": outline.climb.count,
        "epochs": outline.epochs,
        "rungs": outline.rungs(),
        "repeats": outline.repeats,
        "epochs_in_all": outline.total_epochs,
        "expected_seconds": None if costs is None else round(outline.seconds(costs), 1),
        "disk_bytes": disk_bytes(outline.trials, outline.total_epochs, known.parameters),
        "workers": known.workers,
        "costs": None if costs is None else costs.to_json(),
    }


def _fitted(
    session: Session, ref: StageRef, settings: SearchSettings, known: Known, within_a_run: bool = False
) -> dict[str, Any]:
    """Return the plan that fits the budget, and what a larger budget would buy."""
    budget, costs = parse(settings.budget or ""), known.costs
    if budget.unit == "seconds" and costs is None:
        raise UsageError(
            f"--budget {settings.budget}: no step times are known, so a time cannot be planned",
            f"Run {timing_stage()} first, or give trials or epochs: "
            + session.command(ref.stage, "--budget", "40trials"),
        )

    def outline(trials: int, epochs: int) -> Outline:
        return settings.planned(trials, epochs).outline()

    usual = bounds_in_a_run(settings) if within_a_run else settings.BOUNDS

    def best(of: Budget, bounds: Bounds = usual) -> Fit:
        return fit(of, bounds, settings.epochs, known.most or MOST_TRIALS, outline, costs)

    found = best(budget)
    if not found.fits and within_a_run:
        found = best(budget, shortest(settings))
    elif not found.fits:
        least = outline(found.trials, found.epochs).spent(budget.unit, costs)
        needed = str(Budget(least / (AIM if budget.unit == "seconds" else 1.0), budget.unit))
        words = f"{plural(found.trials, 'configuration')} of {plural(found.epochs, 'epoch')}"
        search = f"the least sensible search ({words}) takes {needed}"
        raise UsageError(
            f"--budget {settings.budget}: too little for {ref.stage}; {search}",
            f"Give at least that: {session.command(ref.stage, '--budget', needed)}",
        )
    larger = best(budget.times(MORE))
    chosen = settings.planned(found.trials, found.epochs)
    return {
        "schema": 1,
        "stage": ref.stage,
        **_forecast(chosen, known),
        "larger": {"times": MORE, "budget": str(budget.times(MORE)), "trials": larger.trials, "epochs": larger.epochs},
    }


def timing_stage() -> str:
    """Return the stage that measures what a step takes."""
    return stages.that_measures(LrSweepMetrics)


def costs_of(session: Session, ref: StageRef, workers: int, timed: Timed = NOT_TIMED) -> Costs | None:
    """Return what was measured: of the first configurations, by the search before this one, or by the sweep."""
    scan = session.metrics(CheckInitMetrics, ref.round).data
    swept = ref.other(timing_stage())
    sweep = session.records_of(swept)
    result = session.result_of(swept)
    precision = "fp32" if result is None else result.choice.get("precision", "fp32")
    by_sweep = of_sweep(sweep, scan, session.recipe_of(ref).train.batch_size, precision, workers)
    if timed.records and (costs := of_timing(timed, scan, workers)) is not None:
        return cautious(costs, by_sweep, max(int(record.item.spec.horizon_steps or 0) for record in timed.records))
    before = _earlier_search(ref) if ref.stage in stages.named("searches") else None
    searched = session.records_of(before) if before is not None else []
    newer = rounds.holding(session.run, swept).round > 1
    if searched and before is not None and not newer:  # swept again in a round: another model, batch size or optimizer
        found = session.result_of(before)
        epochs = 1 if found is None else found.metrics.epochs or 1
        best = [str(entry.get("trial")) for entry in ([] if found is None else found.choice.get("top") or [])[:CARRIED]]
        if (costs := of_search(searched, sweep, scan, epochs, workers, best)) is not None:
            return replace(costs, source=before.stage)
    return None if by_sweep is None else replace(by_sweep, source=swept.stage)


def costs_of_its_own(session: Session, ref: StageRef, records: Sequence[Record], workers: int) -> Costs | None:
    """Return what was measured by the trials of the search itself."""
    sweep = session.records_of(ref.other(timing_stage()))
    epochs = max((r.item.spec.horizon_epochs or 1 for r in records), default=1)
    return of_search(records, sweep, session.metrics(CheckInitMetrics, ref.round).data, epochs, workers)


def _most(session: Session, ref: StageRef) -> int | None:
    """Return how many configurations the space has; None: without end."""
    before = _earlier_search(ref)
    found = None if before is None else session.result_of(before)
    if found is not None and found.choice.get("space"):
        return Space.from_json(found.choice["space"]).size()
    swept = session.result_of(ref.other(timing_stage()))
    return scores.searched_space(session.recipe_of(ref), {} if swept is None else swept.choice).size()
