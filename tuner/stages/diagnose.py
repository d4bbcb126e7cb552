"""What do the train and val curves say: train longer, regularise, grow, lower the rate?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from tuner.core.recipe import Recipe
from tuner.core.result import Finding, Record, Skipped, StageResult
from tuner.core.stats import binomial_noise, robust_sigma
from tuner.core.trial import WorkItem
from tuner.rules import apply_rules
from tuner.search import judged
from tuner.search.curve_facts import curve_facts
from tuner.search.knobs import Knobs
from tuner.stages import Inputs, StageSettings

NEEDS = ("fine",)
DEPENDS = ("data", "model", "loss", "optimizer", "schedule", "train", "search")
REPORTED = ("train_accuracy", "val_accuracy", "train_loss", "val_loss", "gap", "gap_interval", "best_epoch", "epochs")


class Settings(StageSettings):
    """What the diagnosis measures against."""

    target: float = Field(0.95, gt=0, le=1, description="train accuracy below which a model without a gap underfits")


def plan(recipe: Recipe, inputs: Inputs, settings: Settings, history: Sequence[Record]) -> list[WorkItem]:
    """Ask for nothing: the curves of fine are there. Confirming runs of look-alikes would be planned here."""
    return []


def judge(recipe: Recipe, inputs: Inputs, settings: Settings, results: Sequence[Record]) -> StageResult:
    """Say what the winner's curves show, and which changes of the recipe follow."""
    records = inputs.trials.get("fine", ())
    trial = inputs.choice("fine").get("trial")
    winner = next((record for record in records if record.result.id == trial), None)
    if winner is None or not winner.rows("val"):
        why = "fine has no winner" if trial is None else f"the winner's curve ({trial}) is not there"
        empty = dict.fromkeys((*REPORTED, "trial"))
        return StageResult("diagnose", f"Nothing to diagnose: {why}.", skipped=[Skipped("all", why)], metrics=empty)
    group = [record for record in records if judged.same_params(record.params, winner.params)]
    known = judged.val_facts(inputs.results, records)
    facts = curve_facts(winner, group, known["val_n"])
    facts["majority_share"] = known["majority_share"] or inputs.metrics("fine").get("majority_share")
    facts["target"] = settings.target
    facts["knobs"] = Knobs(recipe, winner.params, inputs.choice("fine").get("epochs") or facts["epochs"])
    findings, ran, skipped = apply_rules("diagnose", facts, recipe.accept.codes)
    metrics = {key: facts[key] for key in REPORTED} | _noise(facts)
    metrics |= {"trial": trial, "curves_stage": _folder(inputs), "val_n": known["val_n"], "params": dict(winner.params)}
    metrics["majority_share"] = facts["majority_share"]
    choice = {"changes": [change.to_json() for change in _changes(findings)]}
    return StageResult("diagnose", _headline(facts, findings), findings, ran, skipped, choice, metrics)


def _folder(inputs: Inputs) -> str:
    """Return the folder that holds the winner's curve: that of its checkpoint."""
    return str(inputs.choice("fine").get("checkpoint", "fine/")).partition("/")[0]


def _noise(facts: Mapping[str, Any]) -> dict[str, Any]:
    accuracies, n = facts["val_accuracies"], facts["val_n"]
    share = facts["val_accuracy"]
    return {
        "noise": robust_sigma(accuracies) if accuracies else None,
        "sampling_noise": binomial_noise(share, n) if share is not None and n else None,
    }


def _changes(findings: Sequence[Finding]) -> list[Any]:
    """Return the changes of all findings, the heaviest finding first; one change per key."""
    chosen: dict[str, Any] = {}
    for finding in findings:
        if not finding.accepted:
            for change in finding.changes:
                chosen.setdefault(change.key, change)
    return list(chosen.values())


def _headline(facts: Mapping[str, Any], findings: Sequence[Finding]) -> str:
    at = f"at epoch {facts['best_epoch']} of {facts['epochs']}"
    if facts["gap"] is not None:
        said = f"train {facts['train_accuracy']:.4f}, val {facts['val_accuracy']:.4f}"
        text = f"Accuracy {at}: {said}, a gap of {100 * facts['gap']:.1f} points"
        if facts["gap_interval"] is not None:
            low, high = facts["gap_interval"]
            text += f" ({100 * low:.1f} to {100 * high:.1f})"
    elif facts["val_accuracy"] is not None:
        text = f"Val accuracy {facts['val_accuracy']:.4f} {at}; no train subset to compare with"
    else:
        loss = facts["val_loss"]
        text = f"Best {at}" + (f", val loss {loss:.4g}" if loss is not None else "")
    return f"{text}; {findings[0].title if findings else 'nothing to mend'}."
