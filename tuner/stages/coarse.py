"""Among many configurations, a few epochs each: which region is good?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from tuner.checks.coarse.evidence import Coarse
from tuner.checks.engine import apply_rules
from tuner.core.formatting import plural
from tuner.core.metrics import CheckInitMetrics, LrSweepMetrics
from tuner.core.metrics import CoarseMetrics as Metrics
from tuner.core.result import Record, StageResult, last_of_each
from tuner.core.streams import derive_seed
from tuner.core.trial import WorkItem
from tuner.core.values import from_json
from tuner.recipe.model import Recipe
from tuner.recipe.space import RATE, Space
from tuner.search import scores
from tuner.search.budget import Bounds, Outline
from tuner.search.generations import Source, at_once
from tuner.search.halving import KEEP, Climb, Ladder, Rungs, coarse_rungs, ladder, next_items, saved
from tuner.search.importance import importance
from tuner.search.left_behind import left_behind
from tuner.search.narrow import at_borders, narrow
from tuner.stages import Inputs, SearchSettings, Traits

NEEDS = ("lr-sweep",)
DEPENDS = ("data", "model", "loss", "optimizer", "schedule", "train", "search")
TRAITS = Traits(searches=True, budget_share=0.25)
TOP = 5
LEAST = 3  # what fine carries on, and the good trials that the space is narrowed around, were trained to the end


class Settings(SearchSettings):
    """How many configurations, how long, and how they are chosen."""

    BOUNDS: ClassVar[Bounds] = Bounds(least=4, enough=8, plenty=64, shortest=1, longest=5)

    trials: int = Field(16, ge=1, description="configurations to try")
    epochs: int = Field(3, ge=1, description="epochs per configuration")
    sampler: Literal["sobol", "random", "grid", "tpe"] = Field(
        "sobol", description="how configurations are chosen: sobol, random, grid or tpe"
    )
    generation: int = Field(8, ge=1, description="configurations that a sampler which learns (tpe) asks for at once")
    rungs: Rungs = Field("auto", description='epochs after which only the best go on: auto, none, or such as "1,2"')
    keep: float = Field(KEEP, gt=0, le=1, description="share of the configurations that goes on at a rung")

    @property
    def ladder(self) -> Ladder:
        return ladder(self.rungs, coarse_rungs(self.epochs), self.epochs, self.keep, LEAST)

    def outline(self) -> Outline:
        generation = at_once(self.sampler, self.trials, self.generation)
        return Outline(self.climb(generation), self.epochs)

    def climb(self, generation: int) -> Climb:
        """Return the climb: the recipe's own configuration, the first, is trained to the end in any case."""
        return Climb(self.trials, generation, self.ladder, exempt=1)


def plan(recipe: Recipe, inputs: Inputs, settings: Settings, history: Sequence[Record]) -> list[WorkItem]:
    """Give the next generation: the recipe's own configuration first, then the sampler's; the best go on at rungs."""

    def make(params: Mapping[str, Any], number: int) -> WorkItem:
        return _item(recipe, inputs, settings, params, number)

    source = _source(recipe, inputs, settings)
    return next_items(settings.climb(source.generation), history, source.configure, make)


def _source(recipe: Recipe, inputs: Inputs, settings: Settings) -> Source:
    choice = inputs.choice("lr-sweep")
    space = scores.searched_space(recipe, choice)
    seed, base = derive_seed(recipe.seed, "coarse"), scores.base_values(recipe, space)
    own = scores.own_params(recipe, space, choice)
    return Source(space, settings.sampler, seed, settings.trials, base, [own], settings.generation)


def _item(recipe: Recipe, inputs: Inputs, settings: Settings, params: Mapping[str, Any], number: int) -> WorkItem:
    precision = inputs.choice("lr-sweep").get("precision", "fp32")
    fields = {"horizon_epochs": settings.epochs, "precision": precision, "train_subset": False}
    return WorkItem(inputs.spec(recipe, params, **fields), number)


def judge(recipe: Recipe, inputs: Inputs, settings: Settings, results: Sequence[Record]) -> StageResult[Metrics]:
    """Name the best configurations, and the space around them that fine searches."""
    choice = inputs.choice("lr-sweep")
    space = scores.searched_space(recipe, choice)
    trials = last_of_each(results)
    best = scores.scored(trials)
    facts = scores.val_facts(inputs.metrics(CheckInitMetrics), trials)
    monitor = scores.monitor_of(recipe, inputs.metrics(CheckInitMetrics))
    metrics: dict[str, Any] = {
        **scores.counts(trials),
        **saved(results, settings.epochs),
        "best_val_accuracy": max((a for a in map(scores.val_accuracy, best) if a is not None), default=None),
        "best_val_loss": min((loss for loss in map(scores.val_loss, best) if math.isfinite(loss)), default=None),
        "constant_loss": scores.constant_loss(inputs.metrics(CheckInitMetrics)),
        "best_score": best[0].measured_score if best else None,
        "best_params": dict(best[0].params) if best else None,
        "monitor": monitor,
        "score": scores.best_score(best[0] if best else None, monitor),
        "score_name": monitor.removeprefix("val_"),
        "epochs": settings.epochs,
        "rungs": list(settings.ladder.rungs),
        "sampler": settings.sampler,
        "space": space.to_json(),
        "rate": choice.get("lr"),
        "at_border": at_borders(space, best[0].params) if best else {},
        **facts,
        **importance(trials, space, derive_seed(recipe.seed, "coarse", "importance")),
    }
    narrowed = narrow(space, scores.as_scored(best), _limits(inputs.metrics(LrSweepMetrics)))
    seen = Coarse.from_json({**metrics, **left_behind(trials)})
    findings, ran, skipped = apply_rules("coarse", {"coarse": seen}, recipe.accept.codes)
    chosen: dict[str, Any] = {"trial": best[0].result.id} if best else {}
    chosen |= {"top": [_entry(record) for record in best[:TOP]], "space": _explained(narrowed)} if best else {}
    return StageResult("coarse", _headline(metrics), from_json(Metrics, metrics), findings, ran, skipped, chosen)


def _limits(sweep: LrSweepMetrics) -> dict[str, tuple[float, float]]:
    """Return how far the rate may grow: up to the first that diverged above the band."""
    top = sweep.lr_high
    above = [swept.lr for swept in sweep.rates if swept.status == "diverged" and (not top or swept.lr > top)]
    return {RATE: (0.0, min(above))} if above else {}


def _explained(space: Space) -> dict[str, Any]:
    return {key: {**value, "reason": value.get("reason", "")} for key, value in space.to_json().items()}


def _entry(record: Record) -> dict[str, Any]:
    return {
        "params": dict(record.params),
        "val_loss": scores.val_loss(record),
        "val_accuracy": scores.val_accuracy(record),
        "score": record.measured_score,
        "trial": record.result.id,
    }


def _headline(metrics: Mapping[str, Any]) -> str:
    tried = plural(metrics["trials"], "configuration")
    ended = [f"{metrics[name]} {name}" for name in ("diverged", "failed") if metrics[name]]
    if metrics["best_params"] is None:
        return f"None of {tried} gave a result: {', '.join(ended) or 'no score'}."
    value = metrics["best_score"] if metrics["score"] is None else metrics["score"]
    what = f"{metrics['monitor'].replace('_', ' ')} {value:.4f}"
    return f"Best of {metrics['trials']}: {what} with {'; '.join([scores.words(metrics['best_params']), *ended])}."
