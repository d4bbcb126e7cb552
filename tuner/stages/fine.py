"""Around the best of coarse, 10-20 epochs each: which configuration wins, and by more than noise?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from tuner.checks.engine import apply_rules
from tuner.checks.fine.evidence import Fine
from tuner.core.metrics import CheckInitMetrics, CoarseMetrics
from tuner.core.metrics import FineMetrics as Metrics
from tuner.core.result import Record, Skipped, StageResult, last_of_each
from tuner.core.statistics import is_indistinguishable, mean_std
from tuner.core.streams import derive_seed
from tuner.core.trial import WorkItem, canonical_json
from tuner.core.values import from_json
from tuner.recipe.model import Recipe
from tuner.recipe.space import RATE, Range, Space, tidy
from tuner.search import scores
from tuner.search.budget import Bounds, Outline
from tuner.search.expected_accuracy import estimate
from tuner.search.finalists import Finalist, against, ranked, simplest_first
from tuner.search.generations import LEARNING, Source, at_once
from tuner.search.halving import KEEP, Climb, Ladder, Rungs, fine_rungs, ladder, next_items, saved
from tuner.search.importance import importance
from tuner.search.narrow import at_borders
from tuner.search.repeats import lacking
from tuner.search.tpe import Told, told
from tuner.stages import Inputs, SearchSettings, Traits
from tuner.tasks.base import clipped

NEEDS = ("coarse", "lr-sweep")
DEPENDS = ("data", "model", "loss", "optimizer", "schedule", "train", "search")
TRAITS = Traits(searches=True, budget_share=0.75, repeats="always", writes_winner=True)


class Settings(SearchSettings):
    """How many configurations, how long, and how the winner is confirmed."""

    BOUNDS: ClassVar[Bounds] = Bounds(least=3, enough=5, plenty=10, shortest=4, longest=60, whole_length=True)

    trials: int = Field(8, ge=1, description="configurations to try")
    epochs: int = Field(15, ge=1, description="epochs per configuration")
    sampler: Literal["sobol", "random", "grid", "tpe"] = Field(
        "tpe", description="how configurations are chosen: sobol, random, grid or tpe"
    )
    generation: int = Field(4, ge=1, description="configurations that a sampler which learns (tpe) asks for at once")
    rungs: Rungs = Field("auto", description='epochs after which only the best go on: auto, none, or such as "5,10"')
    keep: float = Field(KEEP, gt=0, le=1, description="share of the configurations that goes on at a rung")
    carried: int = Field(3, ge=1, description="best configurations of coarse that are tried again unchanged")
    finalists: int = Field(2, ge=1, description="configurations that are trained again with new seeds")
    seeds: int = Field(
        3,
        ge=1,
        description="seeds per finalist, the first one included; from the fourth on, none for one that is beaten",
    )

    @property
    def ladder(self) -> Ladder:
        return ladder(self.rungs, fine_rungs(self.epochs), self.epochs, self.keep, self.finalists)

    def with_fewer_repeats(self) -> list[Settings]:
        return [self.model_copy(update={"seeds": seeds}) for seeds in range(self.seeds, 0, -1)]

    def larger(self) -> list[Settings]:
        more = range(self.generation, 0, -1) if self.sampler in LEARNING else ()
        return [self.planned(self.trials + count, self.epochs) for count in more]

    def outline(self) -> Outline:
        kept = min(self.carried, self.trials)
        generation = at_once(self.sampler, self.trials, self.generation, kept)
        repeats = min(self.finalists, self.trials) * (self.seeds - 1)
        return Outline(Climb(self.trials, generation, self.ladder, exempt=kept), self.epochs, repeats, evaluated=2)


def plan(recipe: Recipe, inputs: Inputs, settings: Settings, history: Sequence[Record]) -> list[WorkItem]:
    """First coarse's best unchanged and samples around them; then the finalists with new seeds, round by round.

    The rungs stop neither coarse's best nor a finalist: one that was stopped, because those ahead of it diverged later,
    is trained to the end first.
    """

    def make(params: Mapping[str, Any], number: int) -> WorkItem:
        return _item(recipe, inputs, settings, params, recipe.seed, number)

    first = [record for record in history if record.item.spec.seed == recipe.seed]
    source = _source(recipe, inputs, settings)
    climb = Climb(settings.trials, source.generation, settings.ladder, exempt=len(source.kept))
    if items := next_items(climb, first, source.configure, make):
        return items
    trials = last_of_each(first)
    finalists = scores.scored(trials)[: settings.finalists]
    if stopped := [record for record in finalists if record.result.status == "stopped"]:
        return [replace(record.item, until_epoch=None) for record in sorted(stopped, key=lambda record: record.order)]
    repeats = []
    for place, seed in lacking(last_of_each(history), finalists, recipe.seed, settings.seeds):
        number = len(trials) + (seed - recipe.seed - 1) * len(finalists) + place
        repeats.append(_item(recipe, inputs, settings, finalists[place].params, seed, number))
    return repeats


def _item(
    recipe: Recipe, inputs: Inputs, settings: Settings, params: Mapping[str, Any], seed: int, number: int
) -> WorkItem:
    precision = inputs.choice("lr-sweep").get("precision", "fp32")
    measure: dict[str, dict[str, Any]] = {scores.PREDICTIONS: {}}
    spec = inputs.spec(recipe, params, seed=seed, horizon_epochs=settings.epochs, precision=precision, measure=measure)
    return WorkItem(spec, number)


def _source(recipe: Recipe, inputs: Inputs, settings: Settings) -> Source:
    """Return where the configurations come from: coarse's best unchanged, then the sampler on the narrowed space."""
    space = _space(recipe, inputs)
    base = scores.base_values(recipe, space)
    sweep = inputs.choice("lr-sweep")
    top = inputs.choice("coarse").get("top") or [{"params": scores.own_params(recipe, space, sweep)}]
    carried: dict[str, dict[str, Any]] = {}
    for entry in top:
        params = {key: value for key, value in entry["params"].items() if key in space}
        if RATE in params:
            params[RATE] = tidy(params[RATE] * _shift(recipe, inputs))
        carried.setdefault(canonical_json(params), params)
    kept = list(carried.values())[: min(settings.carried, settings.trials)]
    seed, prior = derive_seed(recipe.seed, "fine"), _prior(recipe, inputs, space, kept)
    return Source(space, settings.sampler, seed, settings.trials, base, kept, settings.generation, prior)


def _prior(recipe: Recipe, inputs: Inputs, space: Space, kept: Sequence[Mapping[str, Any]]) -> list[Told]:
    """Return what coarse's trials taught, where they searched the same keys and rates; all of fine's rank higher."""
    if _shift(recipe, inputs) != 1.0:
        return []
    known = {canonical_json(dict(params)) for params in kept}
    trials = [
        record for record in last_of_each(inputs.trials.get("coarse", ())) if set(record.params) <= set(space.keys)
    ]
    return told([record for record in trials if canonical_json(dict(record.params)) not in known], whole=False)


def _space(recipe: Recipe, inputs: Inputs) -> Space:
    """Return coarse's narrowed space: of the keys still searched, and moved along with the band of rates."""
    whole = scores.searched_space(recipe, inputs.choice("lr-sweep"))
    narrowed = inputs.choice("coarse").get("space")
    if not narrowed:
        return whole
    shift = _shift(recipe, inputs)
    dimensions = []
    for dimension in whole.dimensions:
        if dimension.key in narrowed:
            dimension = Space.from_json({dimension.key: narrowed[dimension.key]}).dimensions[0]
        if dimension.key == RATE and shift != 1.0 and isinstance(dimension.domain, Range):
            moved = replace(
                dimension.domain, low=tidy(dimension.domain.low * shift), high=tidy(dimension.domain.high * shift)
            )
            reason = f"{dimension.reason}; moved x{shift:.3g} with the band of a new lr-sweep"
            dimension = replace(dimension, domain=moved, reason=reason)
        dimensions.append(dimension)
    return Space(tuple(dimensions))


def _shift(recipe: Recipe, inputs: Inputs) -> float:
    """Return by which factor the rate to use has moved since coarse: 1 unless a round has swept the rates again."""
    new, old = inputs.choice("lr-sweep").get("lr"), inputs.metrics(CoarseMetrics).rate
    return new / old if new and old and scores.rate_is_auto(recipe) else 1.0


def judge(recipe: Recipe, inputs: Inputs, settings: Settings, results: Sequence[Record]) -> StageResult[Metrics]:
    """Name the winner, what to expect of it on new data, and whether it can be distinguished from the runner-up."""
    space = _space(recipe, inputs)
    trials = last_of_each(results)
    first = [record for record in trials if record.item.spec.seed == recipe.seed]
    finalists, reason = simplest_first(ranked(trials, recipe.seed, settings.finalists))
    metrics: dict[str, Any] = {
        **scores.counts(trials),
        **saved(results, settings.epochs),
        **scores.val_facts(inputs.metrics(CheckInitMetrics), trials),
        "configurations": len(first),
        "monitor": scores.monitor_of(recipe, inputs.metrics(CheckInitMetrics)),
        "epochs": settings.epochs,
        "rungs": list(settings.ladder.rungs),
        "sampler": settings.sampler,
        "space": space.to_json(),
        "finalists": [finalist.to_json() for finalist in finalists],
        "preferred": reason,
        "wall_seconds": sum(record.result.wall_seconds for record in results),
    }
    metrics |= importance(first, space, derive_seed(recipe.seed, "fine", "importance"))
    metrics |= _winner(recipe, finalists, first, metrics, space) if finalists else _nobody()
    findings, ran, skipped = apply_rules("fine", {"fine": Fine.from_json(metrics)}, recipe.accept.codes)
    why = next(
        (e["skipped"] for e in (r.result.evidence.get(scores.PREDICTIONS, {}) for r in trials) if "skipped" in e), ""
    )
    if why:
        skipped = [*skipped, Skipped("paired test against the runner-up", why)]
    chosen = _choice(finalists, settings, inputs.folder or "fine")
    if recipe.after is not None and recipe.after.ensemble == "finalists":
        chosen["members"] = [record.result.id for finalist in finalists for record in finalist.records]
    return StageResult("fine", _headline(metrics), from_json(Metrics, metrics), findings, ran, skipped, chosen)


def _winner(
    recipe: Recipe, finalists: Sequence[Finalist], first: Sequence[Record], metrics: Mapping[str, Any], space: Space
) -> dict[str, Any]:
    winner = finalists[0]
    mean, std = mean_std(winner.scores)
    n = metrics["val_n"] if metrics["monitor"] == "val_accuracy" else None
    whole = [record for record in scores.scored(first) if record.result.status == "completed"]
    expected = estimate(finalists, whole, len(first), n, derive_seed(recipe.seed, "fine", "selection"))
    sign = winner.best.direction
    measured = None if expected.interval is None else sorted(sign * end for end in expected.interval)
    found = {
        "trial": winner.best.result.id,
        "after": dict(winner.best.result.evidence.get("after", {})),
        "best_val_accuracy": scores.val_accuracy(winner.best),
        "score": scores.best_score(winner.best, metrics["monitor"]),
        "score_name": metrics["monitor"].removeprefix("val_"),
        "best_params": dict(winner.best.params),
        "at_border": at_borders(space, winner.best.params),
        "seeds": len(winner.scores),
        "mean": sign * mean,
        "std": std,
        "interval": clipped(metrics["monitor"].removeprefix("val_"), measured),
        "expected": expected.to_json(sign),
        "runner_up": None,
        "runner_up_p": None,
    }
    return found | (against(winner, finalists[1]) if len(finalists) > 1 else {})


def _nobody() -> dict[str, Any]:
    nothing = (
        "trial",
        "best_val_accuracy",
        "score",
        "score_name",
        "best_params",
        "mean",
        "std",
        "interval",
        "expected",
        "runner_up",
    )
    return {**dict.fromkeys((*nothing, "runner_up_p")), "seeds": 0, "at_border": {}}


def _choice(finalists: Sequence[Finalist], settings: Settings, folder: str) -> dict[str, Any]:
    if not finalists:
        return {}
    best = finalists[0].best
    checkpoint = f"{folder}/checkpoints/{best.result.id}.pt"
    trained = {"trial": best.result.id, "seed": best.item.spec.seed, "checkpoint": checkpoint}
    return {"params": dict(best.params), **trained, "epochs": settings.epochs, "best_epoch": best.result.best_epoch}


def _headline(metrics: Mapping[str, Any]) -> str:
    if metrics["best_params"] is None:
        return f"None of {metrics['configurations']} configurations gave a result."
    if metrics["interval"] is None:
        name = metrics["monitor"].replace("_", " ")
        return f"Best {name} {metrics['mean']:.4f}: {scores.words(metrics['best_params'])}."
    name, expected = metrics["monitor"].removeprefix("val_").replace("_", " "), metrics["expected"]["value"]
    low, high = metrics["interval"]
    text = f"Expect {name} {expected:.3f} on new data (95 % interval {low:.3f} to {high:.3f})"
    return f"{text}; simplest of a tie." if metrics["preferred"] else f"{text}{_against(metrics)}."


def _against(metrics: Mapping[str, Any]) -> str:
    """Say whether the winner beats the runner-up beyond noise, by the paired test and by the seeds as far as known."""
    p, gap, error = (metrics.get(f"runner_up_{name}") for name in ("p", "gap", "error"))
    if p is None and error is None:
        return ""
    return "; ties with #2" if is_indistinguishable(p, gap, error) else "; beats #2"
