"""What a stage would do next, from what it has finished; nothing is run (`--dry-run`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuner import stages
from tuner.core.result import Record, TrialResult, last_of_each
from tuner.core.store import StageDir
from tuner.core.trial import WorkItem
from tuner.recipe.model import Recipe
from tuner.workflow import budgets
from tuner.workflow.failures import first_fail_alike, worth_retrying
from tuner.workflow.freshness import Session


def finished_of(folder: StageDir) -> dict[Any, TrialResult]:
    """Return what a stage's folder has of earlier calls, by key, but for failures that are worth another try."""
    return {record.item.key: record.result for record in folder.records() if not worth_retrying(record)}


def known(items: Sequence[WorkItem], finished: Mapping[Any, TrialResult]) -> list[Record]:
    """Return the records of those items that are finished."""
    return [Record(item, finished[item.key]) for item in items if item.key in finished]


def unfinished(items: Sequence[WorkItem], finished: Mapping[Any, TrialResult]) -> list[WorkItem]:
    """Return the items that are to be run, each once."""
    return list({item.key: item for item in items if item.key not in finished}.values())


def plan_only(session: Session, name: str, workers: int, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the trials that a stage has finished and those that it would run next, and how long a search takes.

    `extra`: what the stage reads beside results.
    """
    results = session.require_inputs(name)
    recipe = session.recipe_of(session.basis(name, 1))
    settings = session.settings(name, recipe)
    options = session.options
    kind = "cpu" if options.device == "auto" else options.device.split(":")[0]
    facts = stages.Facts(session.user_files, session.data_hash, kind)
    inputs = stages.Inputs(results, session.trials(name, 1), facts, extra, name)
    folder = session.run.stage(name)
    settings, search = budgets.planned(session, name, 1, settings, workers, folder, keep=False)
    finished = {} if options.fresh else finished_of(folder)
    done, todo = _next_of(stages.load(name), recipe, inputs, settings, finished)
    trials = [_told(item, True) for item in done] + [_told(item, False) for item in todo]
    found = {"stage": name, "settings": settings.model_dump(mode="json"), "trials": trials}
    return found if search is None else {**found, "search": _shown(search)}


def plan_pending(session: Session, names: Sequence[str], workers: int) -> list[dict[str, Any]]:
    """Return for each stage that it is fresh, or its plan; those behind the first that is not wait for it."""
    plans: list[dict[str, Any]] = []
    for name in names:
        state = session.state(name, own_settings=bool(session.options.flags.get(name)))
        if state.kind == "fresh":
            plans.append({"stage": name, "state": "fresh"})
        elif any(plan["state"] != "fresh" for plan in plans):
            plans.append(_waiting(session, name, workers))
        else:
            plans.append({"state": state.kind, **plan_only(session, name, workers, {})})
    return plans


def forecast(session: Session, name: str, workers: int) -> dict[str, Any] | None:
    """Return the plan of a search as far as it can be told before the steps before it are done; None: no search."""
    settings = session.settings(name, session.recipe)
    return budgets.planned(session, name, 1, settings, workers, session.run.stage(name), keep=False)[1]


def _waiting(session: Session, name: str, workers: int) -> dict[str, Any]:
    """Return what can be told of a stage while steps before it are not done."""
    state = "waits for the steps before it"
    settings = session.settings(name, session.recipe)
    if budgets.lacks_times(session, name, settings):
        told = f"; planned for its {settings.budget} when lr-sweep has measured its steps"
        return {"stage": name, "state": state + told}
    search = forecast(session, name, workers)
    return {"stage": name, "state": state, **({} if search is None else {"search": _shown(search)})}


def _next_of(
    stage: stages.Stage, recipe: Recipe, inputs: stages.Inputs, settings: Any, finished: Mapping[Any, TrialResult]
) -> tuple[list[WorkItem], list[WorkItem]]:
    """Return the trials of a stage that are finished, one item each, and what it would run next."""
    records: list[Record] = []
    todo: list[WorkItem] = []
    while not todo and not first_fail_alike(records) and (items := stage.plan(recipe, inputs, settings, records)):
        records = sorted([*records, *known(items, finished)], key=lambda record: record.order)
        todo = unfinished(items, finished)
    waiting = {item.spec.id for item in todo}
    return [record.item for record in last_of_each(records) if record.result.id not in waiting], todo


def _told(item: WorkItem, finished: bool) -> dict[str, Any]:
    """Describe a trial of a stage that is not run."""
    return {
        "number": item.number,
        "params": dict(item.spec.overrides),
        "seed": item.spec.seed,
        "epochs": item.until_epoch or item.spec.horizon_epochs,
        "steps": item.spec.horizon_steps,
        "measure": sorted(item.spec.measure),
        "finished": finished,
    }


def _shown(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plan of a search without what it was made from, which is long."""
    return {key: value for key, value in plan.items() if key != "made_from"}
