"""What a stage would do next, from what it has finished; nothing is run (`--dry-run`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tuner.core.result import Record, last_of_each
from tuner.core.stage_ref import StageRef
from tuner.core.trial import WorkItem
from tuner.workflow import budgets
from tuner.workflow.executor_pool import device_kind
from tuner.workflow.failures import first_fail_alike
from tuner.workflow.freshness import Session
from tuner.workflow.work import Work, known, unfinished, work_of


def plan_only(session: Session, ref: StageRef, workers: int, within_a_run: bool = False) -> dict[str, Any]:
    """Return the trials that a stage has finished and those that it would run next, and how long a search takes.

    `within_a_run`: of a whole run's time; see `budgets.planned`.
    """
    options = session.options
    work = work_of(session, ref, device_kind(session, ref))
    settings, search = budgets.planned(session, ref, work.settings, workers, within_a_run=within_a_run)
    done, todo = _next_of(replace(work, settings=settings), fresh=options.fresh)
    trials = [_described(item, True) for item in done] + [_described(item, False) for item in todo]
    found = {"stage": ref.stage, "settings": settings.model_dump(mode="json"), "trials": trials}
    return found if search is None else {**found, "search": _shown(search)}


def plan_pending(
    session: Session, names: Sequence[str], workers: int, check: Callable[[StageRef], None], within_a_run: bool = False
) -> list[dict[str, Any]]:
    """Return for each stage that it is fresh, or its plan; those behind the first that is not wait for it.

    `check`: refuses what running that first one would. `within_a_run`: the whole run has a time.
    """
    plans: list[dict[str, Any]] = []
    for ref in map(StageRef, names):
        state = session.state(ref, own_settings=bool(session.options.flags.get(ref.stage)))
        if state.kind == "fresh":
            plans.append({"stage": ref.stage, "state": "fresh"})
        elif any(plan["state"] != "fresh" for plan in plans):
            plans.append(_waiting(session, ref, workers, within_a_run))
        else:
            check(ref)
            plans.append({"state": state.kind, **plan_only(session, ref, workers, within_a_run)})
    return plans


def forecast(session: Session, ref: StageRef, workers: int) -> dict[str, Any] | None:
    """Return the plan of a search as far as it can be told before the steps before it are done; None: no search."""
    return budgets.planned(session, ref, session.settings(ref), workers)[1]


def _waiting(session: Session, ref: StageRef, workers: int, within_a_run: bool) -> dict[str, Any]:
    """Return what is known of a stage while steps before it are not done."""
    state, settings = "waits for the steps before it", session.settings(ref)
    if budgets.lacks_times(session, ref, settings):
        later = f"; planned for its {settings.budget} when {budgets.timing_stage()} has measured its steps"
        return {"stage": ref.stage, "state": state + later}
    search = budgets.planned(session, ref, settings, workers, within_a_run=within_a_run)[1]
    return {"stage": ref.stage, "state": state, **({} if search is None else {"search": _shown(search)})}


def _next_of(work: Work, fresh: bool) -> tuple[list[WorkItem], list[WorkItem]]:
    """Return the trials of a stage that are finished, one item each, and what it would run next."""
    finished = {} if fresh else work.finished()
    records: list[Record] = []
    todo: list[WorkItem] = []
    while not todo and not first_fail_alike(records) and (items := work.plan(records)):
        records = sorted([*records, *known(items, finished)], key=lambda record: record.order)
        todo = unfinished(items, finished)
    waiting = {item.spec.id for item in todo}
    return [record.item for record in last_of_each(records) if record.result.id not in waiting], todo


def _described(item: WorkItem, finished: bool) -> dict[str, Any]:
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
