"""Which learning rates make the loss fall clearly within 100 iterations?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field, model_validator

from tuner.checks.engine import apply_rules
from tuner.checks.lr_sweep.evidence import LrSweep
from tuner.core.formatting import rate as spelled
from tuner.core.metrics import CheckInitMetrics
from tuner.core.metrics import LrSweepMetrics as Metrics
from tuner.core.result import Record, StageResult
from tuner.core.trial import WorkItem
from tuner.core.values import from_json
from tuner.recipe.model import Recipe
from tuner.search.band import CONSTANT, LAST, Band, find_band, measure, near, rate_of
from tuner.search.precision import Settled, candidate, settle
from tuner.search.race import SHORT, Question, Race
from tuner.stages import Inputs, StageSettings, Traits, earlier

NEEDS = ("overfit",)
DEPENDS = ("data", "model", "loss", "optimizer", "train")
TRAITS = Traits(user_error_ends=True, repeats="when the lr moves")


class Settings(StageSettings):
    """How the rates are tried."""

    low: float = Field(1e-4, gt=0, description="lowest rate tried at first")
    high: float = Field(1e-1, gt=0, description="highest rate tried at first")
    steps: int = Field(100, ge=20, description="iterations (updates) per rate and seed; hopeless ones end after 30")
    seeds: int = Field(3, ge=1, description="most seeds per rate: further ones where they can change the answer")
    floor: float = Field(1e-7, gt=0, description="the range is never extended below this rate")
    ceiling: float = Field(10.0, gt=0, description="the range is never extended above this rate")

    @model_validator(mode="after")
    def _ordered(self) -> Settings:
        if self.low >= self.high:
            raise ValueError(f"low must be less than high (got low = {self.low!r}, high = {self.high!r})")
        return self

    def race(self, calls: int) -> Race:
        """Return the race; `calls` of a step for an update: a step that gathers gradients is called several times."""
        short = min(SHORT, self.steps)
        return Race(self.low, self.high, self.floor, self.ceiling, self.steps * calls, short * calls, self.seeds)


def plan(recipe: Recipe, inputs: Inputs, settings: Settings, history: Sequence[Record]) -> list[WorkItem]:
    """Give the next round of the race of rates (`tuner.search.race`); when it is over, what settles the precision.

    The same weights and batches for every rate follow from the seed. What has been decided is worked out again from
    `history`, so the plan is the same whenever it is asked for.
    """
    done = {record.item.key: record for record in history}
    items: dict[Question, WorkItem] = {}
    race = settings.race(int(inputs.metrics(CheckInitMetrics).calls_per_update or 1))
    for questions in race.rounds(lambda question: done.get(items[question].key)):
        for question in questions:
            items[question] = _item(recipe, inputs, question, len(items), race.short)
        if missing := [items[question] for question in questions if items[question].key not in done]:
            return missing
    parity = _about_precision(recipe, inputs, list(items), [done[item.key] for item in items.values()], history)
    return [item for item in parity if item.key not in done]


def _about_precision(
    recipe: Recipe, inputs: Inputs, asked: Sequence[Question], swept: Sequence[Record], history: Sequence[Record]
) -> list[WorkItem]:
    """Give the question what the hardware can do; when it is answered, the trials of the parity check."""
    rate = near(find_band(measure(swept)))
    if not _is_open(recipe) or rate is None:
        return []
    question = WorkItem(inputs.spec(recipe, {"optimizer.lr": rate.lr}, measure={"hardware": {}}), len(asked))
    if not (facts := _facts([record for record in history if record.item.key == question.key])):
        return [question]
    short, _ = candidate(facts, inputs.facts.device)
    again = [entry for entry in asked if entry.lr == rate.lr and entry.steps == rate.steps] if short else []
    first = question.number + 1
    again = [replace(entry, least=None) for entry in again]
    return [_item(recipe, inputs, entry, first + i, precision=short or "fp32") for i, entry in enumerate(again)]


def _is_open(recipe: Recipe) -> bool:
    """Return whether the recipe leaves the precision to the sweep."""
    return recipe.train.precision == "auto" and recipe.train.step is None


def _facts(records: Sequence[Record]) -> Mapping[str, Any]:
    """Return what the probe of the hardware found."""
    return next((r.result.evidence["hardware"] for r in records if "hardware" in r.result.evidence), {})


def _item(
    recipe: Recipe, inputs: Inputs, question: Question, number: int, short: int = 0, precision: str = "fp32"
) -> WorkItem:
    overrides, seed = {"optimizer.lr": question.lr}, recipe.seed + question.seed
    spec = inputs.spec(recipe, overrides, seed=seed, horizon_steps=question.steps, precision=precision)
    give_up = None if question.least is None else {"steps": short, "last": LAST, "drop": question.least}
    return WorkItem(replace(spec, tables={**spec.tables, "schedule": dict(CONSTANT)}, give_up=give_up), number)


def settle_precision(recipe: Recipe, device: str, band: Band, results: Sequence[Record]) -> Settled:
    """Return the precision that coarse and fine use, and why."""
    if recipe.train.precision != "auto":
        return Settled(recipe.train.precision, "the recipe says so")
    if recipe.train.step is not None:
        return Settled("fp32", "the recipe has a train step of its own")
    rate = near(band)
    at_rate = [record for record in results if rate is not None and rate_of(record.item) == rate.lr]
    compared = [record for record in at_rate if rate is not None and record.item.spec.horizon_steps == rate.steps]
    return settle(_facts(results), device, rate, compared)


def judge(recipe: Recipe, inputs: Inputs, settings: Settings, results: Sequence[Record]) -> StageResult[Metrics]:
    """Name the band and the rate to use."""
    swept = [record for record in results if _is_of_sweep(record)]
    band = find_band(measure(swept))
    settled = settle_precision(recipe, inputs.facts.device, band, results)
    metrics = _metrics(band, recipe, settings, swept)
    metrics["precision"] = {"precision": settled.precision, "reason": settled.reason, **settled.numbers}
    seen = LrSweep.from_json(metrics | _settings_of(recipe)), earlier(inputs)
    findings, ran, skipped = apply_rules("lr-sweep", {item.measurement(): item for item in seen}, recipe.accept.codes)
    choice: dict[str, Any] = {"precision": settled.precision, "precision_reason": settled.reason}
    if band.lr is not None:
        choice |= {"lr": band.lr, "lr_low": band.lr_low, "lr_high": band.lr_high}
    return StageResult(
        "lr-sweep", _headline(band, settings), from_json(Metrics, metrics), findings, ran, skipped, choice
    )


def _settings_of(recipe: Recipe) -> dict[str, Any]:
    """Return what else of the recipe decides how far a step goes."""
    return {
        "optimizer": recipe.optimizer.name,
        "weight_decay": recipe.optimizer.weight_decay,
        "momentum": recipe.value("optimizer.momentum"),
        "dropout": recipe.value("model.dropout"),
        "clip_norm": recipe.train.clip_norm,
        "trained_before": recipe.finetune is not None
        and recipe.finetune.weights is not None
        and recipe.finetune.way != "head",
        "searched": recipe.search.get("optimizer.lr", None if recipe.search else "auto") == "auto",
    }


def _is_of_sweep(record: Record) -> bool:
    """Return whether a record measures a rate, and not the hardware or another precision."""
    return record.item.spec.horizon_steps is not None and record.item.spec.precision == "fp32"


def _metrics(band: Band, recipe: Recipe, settings: Settings, results: Sequence[Record]) -> dict[str, Any]:
    rates = [
        {
            "lr": rate.lr,
            "first_loss": rate.first_loss,
            "final_loss": rate.final_loss,
            "final_loss_std": rate.final_loss_std,
            "drop": rate.drop,
            "drop_std": rate.drop_std,
            "status": rate.status,
            "diverged_at": rate.diverged_at,
            "steps": rate.steps,
            "seeds": len(rate.by_seed),
            "verdict": band.verdicts[rate.lr],
        }
        for rate in band.rates
    ]
    errors = sorted({record.result.error.message for record in results if record.result.error})
    return {
        "rates": rates,
        "noise": band.noise,
        "trials": {f"{rate.lr:g}": list(rate.trials) for rate in band.rates},
        "steps": settings.steps,
        "seeds": settings.seeds,
        "recipe_lr": recipe.optimizer.lr,
        "best_lr": band.best.lr if band.best else None,
        "lr": band.lr,
        "lr_low": band.lr_low,
        "lr_high": band.lr_high,
        "edge": band.edge,
        "errors": errors[:3],
    }


def _headline(band: Band, settings: Settings) -> str:
    tried = f"{spelled(band.rates[0].lr)} and {spelled(band.rates[-1].lr)}" if band.rates else "none"
    if band.lr is not None and band.lr_low is not None and band.lr_high is not None:
        low, high = spelled(band.lr_low), spelled(band.lr_high)
        where = f"between {low} and {high}" if low != high else f"at {low}"
        return f"Loss falls clearly {where}; use {spelled(band.lr)}."
    count = len(band.rates)
    statuses = {rate.status for rate in band.rates}
    if statuses == {"diverged"}:
        return f"All {count} rates between {tried} diverge within {settings.steps} iterations."
    if statuses == {"failed"}:
        return f"The trials of all {count} rates between {tried} failed."
    steps = settings.steps
    return f"Loss falls at none of {count} rates between {tried} within {steps} iterations (noise {band.noise:.2g})."
