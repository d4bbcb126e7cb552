"""Among many configurations, a few epochs each: which region is good?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from tuner.core.recipe import Recipe
from tuner.core.result import Record, StageResult
from tuner.core.space import RATE, Space
from tuner.core.streams import derive_seed
from tuner.core.trial import WorkItem
from tuner.rules import apply_rules
from tuner.search import judged
from tuner.search.narrow import at_borders, narrow
from tuner.search.samplers import design
from tuner.stages import Inputs, StageSettings

NEEDS = ("lr-sweep",)
DEPENDS = ("data", "model", "loss", "optimizer", "schedule", "train", "search")
TOP = 5


class Settings(StageSettings):
    """How many configurations, how long, and how they are chosen."""

    trials: int = Field(16, ge=1, description="configurations to try")
    epochs: int = Field(3, ge=1, description="epochs per configuration")
    sampler: Literal["sobol", "random", "grid"] = Field("sobol", description="how configurations are chosen")
    generation: int = Field(8, ge=1, description="configurations planned at once")


def plan(recipe: Recipe, inputs: Inputs, settings: Settings, history: Sequence[Record]) -> list[WorkItem]:
    """Give the next generation: the recipe's own configuration first, then the sampler's."""
    done = {record.number for record in history}
    params = _params(recipe, inputs, settings)
    for start in range(0, len(params), settings.generation):
        numbers = range(start, min(start + settings.generation, len(params)))
        if missing := [number for number in numbers if number not in done]:
            return [_item(recipe, inputs, settings, params[number], number) for number in missing]
    return []


def _params(recipe: Recipe, inputs: Inputs, settings: Settings) -> list[dict[str, Any]]:
    choice = inputs.choice("lr-sweep")
    space = judged.searched_space(recipe, choice)
    own = judged.own_params(recipe, space, choice)
    seed = derive_seed(recipe.seed, "coarse")
    base = judged.base_values(recipe, space)
    return [own, *design(space, settings.sampler, seed, settings.trials - 1, base, taken=[own])]


def _item(recipe: Recipe, inputs: Inputs, settings: Settings, params: Mapping[str, Any], number: int) -> WorkItem:
    precision = inputs.choice("lr-sweep").get("precision", "fp32")
    fields = {"horizon_epochs": settings.epochs, "precision": precision, "train_subset": False}
    return WorkItem(inputs.spec(recipe, params, **fields), number)


def judge(recipe: Recipe, inputs: Inputs, settings: Settings, results: Sequence[Record]) -> StageResult:
    """Name the best configurations, and the space around them that fine searches."""
    choice = inputs.choice("lr-sweep")
    space = judged.searched_space(recipe, choice)
    best = judged.scored(results)
    facts = judged.val_facts(inputs.results, results)
    metrics: dict[str, Any] = {
        **judged.counts(results),
        "best_val_accuracy": max((a for a in map(judged.val_accuracy, best) if a is not None), default=None),
        "best_score": best[0].result.score if best else None,
        "best_params": dict(best[0].params) if best else None,
        "monitor": recipe.train.monitor,
        "epochs": settings.epochs,
        "sampler": settings.sampler,
        "space": space.to_json(),
        "rate": choice.get("lr"),
        "at_border": at_borders(space, best[0].params) if best else {},
        **facts,
    }
    narrowed = narrow(space, judged.as_scored(best), _limits(inputs.metrics("lr-sweep")))
    findings, ran, skipped = apply_rules("coarse", metrics, recipe.accept.codes)
    chosen = {"top": [_entry(record) for record in best[:TOP]], "space": _explained(narrowed)} if best else {}
    return StageResult("coarse", _headline(metrics), findings, ran, skipped, chosen, metrics)


def _limits(sweep: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return how far the rate may grow: up to the first that diverged above the band."""
    top = sweep.get("lr_high")
    above = [
        rate["lr"] for rate in sweep.get("rates", []) if rate["status"] == "diverged" and (not top or rate["lr"] > top)
    ]
    return {RATE: (0.0, min(above))} if above else {}


def _explained(space: Space) -> dict[str, Any]:
    return {key: {**value, "reason": value.get("reason", "")} for key, value in space.to_json().items()}


def _entry(record: Record) -> dict[str, Any]:
    return {
        "params": dict(record.params),
        "val_loss": judged.val_loss(record),
        "val_accuracy": judged.val_accuracy(record),
        "score": record.result.score,
        "trial": record.result.id,
    }


def _headline(metrics: Mapping[str, Any]) -> str:
    tried = f"{metrics['trials']} configurations, {metrics['epochs']} epochs each"
    ended = [f"{metrics[name]} {name}" for name in ("diverged", "failed") if metrics[name]]
    if metrics["best_params"] is None:
        return f"None of {tried} gave a result: {', '.join(ended) or 'no score'}."
    value = metrics["best_val_accuracy"]
    what = f"val accuracy {value:.4f}" if value is not None else f"{metrics['monitor']} {metrics['best_score']:.4g}"
    return f"{tried}: best {what} with {'; '.join([judged.words(metrics['best_params']), *ended])}."
