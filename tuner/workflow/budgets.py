"""What a search will take, and the plan that a budget is turned into: made once, kept in the stage's folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tuner.core.errors import InputError, UsageError
from tuner.core.formatting import plural
from tuner.core.manifest import Provenance
from tuner.core.result import Record
from tuner.core.store import StageDir, read_json, write_json
from tuner.core.trial import WorkItem
from tuner.recipe.model import Recipe
from tuner.recipe.space import Space
from tuner.search import scores
from tuner.search.budget import AIM, MOST_TRIALS, Budget, Fit, Outline, clock, fit, parse
from tuner.search.costs import Costs, disk_bytes, of_search, of_sweep, of_timing
from tuner.stages import Inputs, SearchSettings, Stage
from tuner.workflow import rounds
from tuner.workflow.freshness import Session

SHARES = {"coarse": 0.25, "fine": 0.75}  # of a budget for the whole search: fine trains longer, and its finalists again
TIMED = 4  # configurations of coarse that are timed before a plan is made for them
TIMED_SHARE, TIMED_STEPS = 0.02, (5, 100)  # of a budget that the timing takes; the least and most steps of each
MORE = 2  # times the budget: what that would buy is said
KEYS = ("budget", "trials", "epochs", "rungs", "repeats", "epochs_in_all", "expected_seconds", "disk_bytes", "workers")


def shares(text: str | None) -> dict[str, dict[str, str]]:
    """Return {stage: settings} of a budget for the whole search.

    Raises:
        UsageError: it is no time.
    """
    if text is None:
        return {}
    try:
        budget = parse(text)
    except ValueError as error:
        raise UsageError(f"--budget: {error} (got {text!r})", "tuner run takes a time, such as 20m or 1h30m.") from None
    if budget.unit != "seconds":
        raise UsageError(
            f"--budget: tuner run takes a time for coarse and fine together, such as 20m or 1h30m (got {text!r})",
            f"Give {budget.unit} to a stage of its own: tuner coarse RECIPE --budget {text}",
        )
    return {stage: {"budget": clock(budget.amount * share)} for stage, share in SHARES.items()}


def to_time(
    session: Session, round_number: int, stage: Stage, recipe: Recipe, inputs: Inputs, settings: Any, folder: StageDir
) -> list[WorkItem]:
    """Return two short runs of each of the first configurations of a search with a budget in time, for its plan.

    None are needed where a plan stands already, or where coarse's trials tell what fine's will take.
    """
    if not isinstance(settings, SearchSettings) or settings.budget is None or folder.label != "coarse":
        return []
    budget = parse(settings.budget)
    if budget.unit != "seconds" or _standing(folder, session.provenance("coarse", round_number)):
        return []
    if (costs := _costs(session, "coarse", round_number, workers=1)) is None:
        return []
    batches = math.ceil(_train_size(session, round_number) / recipe.train.batch_size)
    affordable = TIMED_SHARE * budget.amount / TIMED * batches / costs.epoch_seconds
    steps = int(min(max(affordable, TIMED_STEPS[0]), TIMED_STEPS[1]))
    items = stage.plan(recipe, inputs, settings.planned(TIMED, settings.epochs), [])[:TIMED]
    return [
        WorkItem(replace(item.spec, horizon_epochs=None, horizon_steps=length, measure={}), item.number)
        for length in (max(1, steps // 10), steps)
        for item in items
    ]


def lacks_times(session: Session, name: str, settings: Any) -> bool:
    """Say whether a budget in time cannot be planned yet, because nothing has measured what a step takes."""
    if not isinstance(settings, SearchSettings) or settings.budget is None:
        return False
    return parse(settings.budget).unit == "seconds" and _costs(session, name, 1, workers=1) is None


def _train_size(session: Session, round_number: int) -> int:
    data = session.result_of("check-init", round_number).get("metrics", {}).get("data") or {}
    return int((data.get("train") or {}).get("n") or 1)


def planned(
    session: Session,
    name: str,
    round_number: int,
    settings: Any,
    workers: int,
    folder: StageDir,
    keep: bool,
    timed: Sequence[Record] = (),
) -> tuple[Any, dict[str, Any] | None]:
    """Return the settings with the trials and epochs of the plan, and the plan; None for a stage that searches nothing.

    A stage with a budget whose plan was made from the same things keeps it, whatever time and workers there are now.
    `keep`: write a new plan into the folder, before the first trial; a plan of a search without budget goes.
    `timed`: the results of `to_time`.

    Raises:
        UsageError: the budget is less than the least sensible search takes.
    """
    if not isinstance(settings, SearchSettings):
        return settings, None
    path = folder.plan_path
    if settings.budget is None:
        if keep:
            path.unlink(missing_ok=True)
        return settings, _forecast(settings, _known(session, name, round_number, workers, timed))
    made_from = session.provenance(name, round_number)
    plan = _standing(folder, made_from)
    if plan is None:
        known = _known(session, name, round_number, workers, timed)
        plan = {**_fitted(session, name, settings, known), "made_from": vars(made_from)}
        if keep:
            write_json(path, plan)
    return settings.planned(plan["trials"], plan["epochs"]), plan


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


def _known(session: Session, name: str, round_number: int, workers: int, timed: Sequence[Record]) -> Known:
    scan = session.result_of("check-init", round_number).get("metrics", {})
    costs, most = _costs(session, name, round_number, workers, timed), _most(session, name, round_number)
    return Known(workers, costs, most, int(scan.get("parameters") or 0))


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


def _fitted(session: Session, name: str, settings: SearchSettings, known: Known) -> dict[str, Any]:
    """Return the plan that fits the budget, and what a larger budget would buy."""
    budget, costs = parse(settings.budget or ""), known.costs
    if budget.unit == "seconds" and costs is None:
        raise UsageError(
            f"--budget {settings.budget}: no step times are known, so a time cannot be planned",
            f"Run lr-sweep first, or give trials or epochs: tuner {name} {session.recipe_path} --budget 40trials",
        )

    def outline(trials: int, epochs: int) -> Outline:
        return settings.planned(trials, epochs).outline()

    def best(of: Budget) -> Fit:
        return fit(of, settings.BOUNDS, settings.epochs, known.most or MOST_TRIALS, outline, costs)

    found = best(budget)
    if not found.fits:
        least = outline(found.trials, found.epochs).spent(budget.unit, costs)
        needed = str(Budget(least / (AIM if budget.unit == "seconds" else 1.0), budget.unit))
        words = f"{plural(found.trials, 'configuration')} of {plural(found.epochs, 'epoch')}"
        search = f"the least sensible search ({words}) takes {needed}"
        if all("budget" in session.options.flags.get(stage, {}) for stage in SHARES):  # tuner run shared it out
            whole = clock(parse(needed).amount / SHARES[name])
            raise UsageError(
                f"--budget: the {settings.budget} of it for {name} are too little for {name}; {search}",
                f"Give at least {whole} for coarse and fine together: tuner run {session.recipe_path} --budget {whole}",
            )
        raise UsageError(
            f"--budget {settings.budget}: too little for {name}; {search}",
            f"Give at least that: tuner {name} {session.recipe_path} --budget {needed}",
        )
    larger = best(budget.times(MORE))
    chosen = settings.planned(found.trials, found.epochs)
    return {
        "schema": 1,
        "stage": name,
        **_forecast(chosen, known),
        "larger": {"times": MORE, "budget": str(budget.times(MORE)), "trials": larger.trials, "epochs": larger.epochs},
    }


def _costs(session: Session, name: str, round_number: int, workers: int, timed: Sequence[Record] = ()) -> Costs | None:
    """Return what was measured: of coarse's first configurations, by lr-sweep, or for fine by coarse."""
    at = session.result_of("check-init", round_number).get("metrics", {}).get("data") or {}
    sweep = session.records_of("lr-sweep", round_number)
    if timed and (costs := of_timing(timed, at, workers)) is not None:
        return costs
    searched = session.records_of("coarse", round_number) if name != "coarse" else []
    newer = rounds.effective_round(session.run.path, "lr-sweep", round_number) > 1
    if searched and not newer:  # a round that swept the rates again has another model, batch size or optimizer
        epochs = int(session.result_of("coarse", round_number).get("metrics", {}).get("epochs") or 1)
        if (costs := of_search(searched, sweep, at, epochs, workers)) is not None:
            return costs
    recipe: Recipe = session.recipe_of(round_number)
    precision = session.result_of("lr-sweep", round_number).get("choice", {}).get("precision", "fp32")
    return of_sweep(sweep, at, recipe.train.batch_size, precision, workers)


def _most(session: Session, name: str, round_number: int) -> int | None:
    """Return how many configurations the space has; None: without end."""
    narrowed: Mapping[str, Any] = session.result_of("coarse", round_number).get("choice", {}).get("space") or {}
    if name != "coarse" and narrowed:
        return Space.from_json(narrowed).size()
    choice = session.result_of("lr-sweep", round_number).get("choice", {})
    return scores.searched_space(session.recipe_of(round_number), choice).size()
