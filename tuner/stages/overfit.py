"""Can the model drive a tiny subset to the loss floor? If not, it is a bug, not a hyperparameter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, field_validator

from tuner.checks.attempts.evidence import Attempts
from tuner.checks.engine import apply_rules
from tuner.checks.overfit.evidence import Overfit
from tuner.checks.trials.evidence import Failure, Trials
from tuner.core.formatting import plural
from tuner.core.formatting import rate as spelled
from tuner.core.metrics import CheckInitMetrics
from tuner.core.metrics import OverfitMetrics as Metrics
from tuner.core.result import Record, Skipped, StageResult
from tuner.core.trial import WorkItem
from tuner.core.values import from_json
from tuner.recipe.model import Recipe
from tuner.stages import Inputs, StageSettings, Traits, earlier

NEEDS = ("check-init",)
DEPENDS = ("data", "model", "loss", "optimizer", "train")
TRAITS = Traits(any_failure_ends=True, user_error_ends=True)

MEASURE = "overfit"
# rates tried after the recipe's own, in this order: for steps of plain gradient, and for steps of normalised size
REFERENCE_RATE = 1e-3
PLAIN_RATES = (1e-2, 1e-1, 1e-3, 1.0, 1e-4)
SCALED_RATES = (1e-3, 1e-2, 1e-4, 1e-1)
# failures that another rate does not fix
FATAL = ("user-code", "data")
PLAIN = ("sgd", "asgd", "lbfgs", "nesterov")


class Settings(StageSettings):
    """What is fitted, and for how long it is tried."""

    examples: int = Field(32, ge=2, description="examples of the subset, at least two per class where that stays small")
    steps: int = Field(
        400, ge=10, description="training steps per rate; the best rate gets five times as many if none fits"
    )
    tolerance: float = Field(
        0.02, gt=0, lt=1, description="how near to the floor: share of the way from uniform outputs"
    )
    rates: tuple[float, ...] | None = Field(
        None, description="rates to try, e.g. 0.1,0.01; none given: the recipe's, then decades"
    )

    @field_validator("rates", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(float(part) for part in value.split(","))
        return tuple(value) if isinstance(value, list) else value

    @field_validator("rates")
    @classmethod
    def _positive(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and (not value or not all(0 < rate < math.inf for rate in value)):
            raise ValueError("every rate must be greater than 0, and there must be one")
        return value


def rates_to_try(recipe: Recipe, settings: Settings) -> list[float]:
    """Return the rates in the order in which they are tried."""
    if settings.rates is not None:
        return list(dict.fromkeys(settings.rates))
    decades = PLAIN_RATES if recipe.optimizer.name.rpartition(".")[2].lower() in PLAIN else SCALED_RATES
    return list(dict.fromkeys((recipe.optimizer.lr, *decades)))


def plan(recipe: Recipe, inputs: Inputs, settings: Settings, history: Sequence[Record]) -> list[WorkItem]:
    """One rate after the other until one reaches the floor; if none has, the best one with patience, then Adam.

    Adam at 1e-3 is the reference: where it fits and the recipe's optimizer does not, model, loss and data are sound.
    """
    if any(record.result.error is not None and record.result.error.kind in FATAL for record in history):
        return []
    if any(_answer(record).get("status") == "floor" for record in history):
        return []
    rates = rates_to_try(recipe, settings)
    number, steps = len(history), settings.steps
    if number < len(rates):
        return [_item(recipe, inputs, settings, number, rates[number], max_steps=steps)]
    tried = {kind for record in history for kind in ("patient", "reference") if _kind(record) == kind}
    best = _best(history)
    if best is None or tried >= {"patient", "reference"} or _no_floor_to_reach(_answer(best)):
        return []
    if "patient" not in tried and not _is_flat(_answer(best)):
        rate = best.params["optimizer.lr"]
        return [_item(recipe, inputs, settings, number, rate, max_steps=5 * steps, give_up_early=False)]
    if "reference" not in tried:
        return [_item(recipe, inputs, settings, number, REFERENCE_RATE, max_steps=steps, reference=True)]
    return []


def _item(recipe: Recipe, inputs: Inputs, settings: Settings, number: int, rate: float, **measure: Any) -> WorkItem:
    arguments = {"examples": settings.examples, "tolerance": settings.tolerance, **measure}
    return WorkItem(inputs.spec(recipe, {"optimizer.lr": rate}, measure={MEASURE: arguments}), number)


def _kind(record: Record) -> str:
    arguments = record.item.spec.measure[MEASURE]
    if arguments.get("reference"):
        return "reference"
    return "patient" if arguments.get("give_up_early") is False else "plain"


def judge(recipe: Recipe, inputs: Inputs, settings: Settings, results: Sequence[Record]) -> StageResult[Metrics]:
    """Pass where a rate reached the floor; otherwise say which level the loss is stuck at."""
    evidence = evidence_of(recipe, results)
    calls = inputs.metrics(CheckInitMetrics).calls_per_update or 1
    trials = _failed(results)
    seen = _attempts(recipe, evidence), trials, earlier(inputs)
    given = {item.measurement(): item for item in seen}
    findings, ran, skipped = apply_rules("overfit", given, recipe.accept.codes)
    if "best" not in evidence:
        skipped = [Skipped("every other check", "no attempt finished")]
    best = evidence.get("best", {})
    if best.get("random_in_train_mode"):
        why = (
            "the forward in train mode is random though every dropout module is off (functional dropout?); "
            "judged in eval mode"
        )
        skipped.append(Skipped("dropout off", why))
    metrics = from_json(
        Metrics,
        {
            "final_loss": best.get("final_loss"),
            "loss_floor": best.get("loss_floor"),
            "target": best.get("target"),
            "final_accuracy": best.get("final_accuracy"),
            "steps": best.get("steps"),
            "lr": best.get("lr"),
            "examples": best.get("examples"),
            "train_mode_loss": best.get("train_mode_loss"),
            # after the running statistics of normalisation layers have caught up with the few steps
            "eval_loss": best.get("recalibrated_loss"),
            "eval_accuracy": best.get("recalibrated_accuracy"),
            "eval_loss_at_once": best.get("eval_loss"),
            "trial": evidence.get("trial"),
            "rates": evidence["rates"],
        },
    )
    return StageResult("overfit", _headline(evidence, trials, calls), metrics, findings, ran, skipped)


def evidence_of(recipe: Recipe, results: Sequence[Record]) -> dict[str, Any]:
    """Return the best attempt, all of them, and those in short."""
    evidence: dict[str, Any] = {"rates": []}
    keep = ("lr", "final_loss", "final_accuracy", "steps", "status", "reference")
    answers = sorted((_answer(record) for record in results if _answer(record)), key=lambda answer: answer["lr"])
    evidence["rates"] = [{key: answer.get(key) for key in keep} for answer in answers]
    evidence["attempts"] = answers
    best = _best(results) or next((record for record in results if _answer(record)), None)
    if best is not None:
        evidence |= {"best": _answer(best), "trial": best.result.id}
    return evidence


def _attempts(recipe: Recipe, evidence: Mapping[str, Any]) -> Attempts:
    attempts = [Overfit.from_json(answer) for answer in evidence["attempts"]]
    best = Overfit.from_json(evidence["best"]) if "best" in evidence else None
    return Attempts(best, attempts, recipe.train.clip_norm)


def _failed(results: Sequence[Record]) -> Trials:
    errors = [record.result.error for record in results if record.result.error is not None]
    return Trials([Failure(error.kind, error.message) for error in errors])


def _answer(record: Record) -> Mapping[str, Any]:
    return record.result.evidence.get(MEASURE, {})


def _best(history: Sequence[Record]) -> Record | None:
    """Return the attempt that reached the floor, else the one with the lowest final loss."""
    answers = [record for record in history if _answer(record).get("final_loss") is not None]
    for record in answers:
        if _answer(record)["status"] == "floor":
            return record
    return min(answers, key=lambda record: (_answer(record)["final_loss"], record.number), default=None)


def _no_floor_to_reach(answer: Mapping[str, Any]) -> bool:
    """Return whether no optimizer can help: no floor, squashed outputs above it, or weights that do not move."""
    own, target = answer.get("own_floor"), answer.get("target")
    return target is None or not answer["moved"] or (own is not None and own > target)


def _is_flat(answer: Mapping[str, Any]) -> bool:
    """Return whether the outputs are the same for every input, which more of the same steps do not change."""
    return bool(answer["outputs_vary"] is not None and answer["outputs_vary"] < 1e-6)


def _headline(evidence: Mapping[str, Any], trials: Trials, calls: int) -> str:
    """Return whether the subset was fitted; `calls`: of the step for one update, more than 1 where it accumulates."""
    best = evidence.get("best")
    if best is None:
        failure = trials.failures[0] if trials.failures else Failure("crash", "no attempt finished")
        return f"No attempt finished ({failure.kind}): {failure.message.splitlines()[0]}"
    if best["final_loss"] is None:
        return f"The loss is not finite at any of {len(evidence['rates'])} rates, on {best['examples']} examples."
    right = "" if best["final_accuracy"] is None else f", accuracy {best['final_accuracy']:.0%}"
    floor = "no floor known" if best["loss_floor"] is None else f"floor {best['loss_floor']:.2g}"
    if best.get("ambiguous"):
        floor += f": {best['ambiguous']:.0%} of the beginnings go on in more than one way"
    reached = f"{best['examples']} examples: loss {best['final_loss']:.3f} ({floor}){right}"
    if best["status"] == "floor":
        by = "with Adam, not with the recipe's optimizer" if best.get("reference") else f"at lr {spelled(best['lr'])}"
        updates = f" ({best['steps'] // calls} updates)" if calls > 1 else ""
        return f"Fits {reached}, in {best['steps']} steps{updates} {by}."
    return f"Does not fit {reached}, best of {plural(len(evidence['rates']), 'attempt')}."
