"""What is the generalisation error, on the test split that no step before has been handed?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuner.checks.engine import apply_rules
from tuner.checks.test_evaluation.evidence import TestEvaluation
from tuner.core.errors import InputError
from tuner.core.formatting import plural
from tuner.core.metrics import FineMetrics
from tuner.core.metrics import TestMetrics as Metrics
from tuner.core.result import Record, StageResult
from tuner.core.statistics import wilson
from tuner.core.trial import WorkItem
from tuner.core.values import from_json
from tuner.recipe.model import Recipe
from tuner.stages import Inputs, StageSettings, Traits
from tuner.tasks.base import clipped

NEEDS = ("fine",)
DEPENDS = ("data", "model", "loss", "train")
TRAITS = Traits(any_failure_ends=True, user_error_ends=True, on_test_split=True)
MEASURE = "test_evaluation"
PICTURES = ("residuals", "labels", "ranks")


class Settings(StageSettings):
    """Nothing to set."""


def plan(recipe: Recipe, inputs: Inputs, settings: Settings, history: Sequence[Record]) -> list[WorkItem]:
    """Evaluate the winner's checkpoint once; nothing is trained.

    Raises:
        InputError: there is no winner.
    """
    winner = _winner(inputs)
    members = _members(recipe, inputs, winner)
    measure = {MEASURE: {"checkpoint": winner["checkpoint"], **({"members": members} if members else {})}}
    item = WorkItem(inputs.spec(recipe, winner.get("params", {}), measure=measure), 0)
    return [] if any(record.item.key == item.key for record in history) else [item]


def _members(recipe: Recipe, inputs: Inputs, winner: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return checkpoint and parameters of every model of fine's finalists, where the recipe averages their answers."""
    if recipe.after is None or recipe.after.ensemble != "finalists":
        return []
    folder = str(winner["checkpoint"]).partition("/")[0]
    kept, finalists = set(inputs.choice("fine").get("members", ())), inputs.metrics(FineMetrics).finalists
    return [
        {"checkpoint": f"{folder}/checkpoints/{trial}.pt", "params": dict(finalist.params)}
        for finalist in finalists
        for trial in finalist.trials
        if trial in kept
    ]


def _winner(inputs: Inputs) -> Mapping[str, Any]:
    winner = inputs.extra.get("winner") or inputs.choice("fine")
    if not winner.get("checkpoint"):
        raise InputError("there is no winner to test: winner.json names no checkpoint", "Run `tuner fine` first.")
    return winner


def judge(recipe: Recipe, inputs: Inputs, settings: Settings, results: Sequence[Record]) -> StageResult[Metrics]:
    """Report the accuracy with its interval, and whether val had promised it."""
    winner = _winner(inputs)
    evidence = results[0].result.evidence.get(MEASURE, {}) if results else {}
    error = results[0].result.error if results else None
    metrics = _metrics(evidence, inputs, winner)
    metrics["error"] = error.message if error else evidence.get("skipped")
    given = {"test_evaluation": TestEvaluation.from_json(metrics)}
    findings, ran, skipped = apply_rules("test", given, recipe.accept.codes)
    choice = {"trial": winner.get("trial"), "checkpoint": winner["checkpoint"]}
    if winner.get("so_far"):
        choice["so_far"] = winner["so_far"]
    headline = _headline(metrics) + _unsure(winner)
    return StageResult("test", headline, from_json(Metrics, metrics), findings, ran, skipped, choice)


def _metrics(evidence: Mapping[str, Any], inputs: Inputs, winner: Mapping[str, Any]) -> dict[str, Any]:
    accuracy, n = evidence.get("accuracy"), evidence.get("n")
    confusion = evidence.get("confusion")
    fine = inputs.metrics(FineMetrics)
    own, given = evidence.get("score_name", "accuracy"), evidence.get("score_interval")
    counted = list(wilson(accuracy, n)) if accuracy is not None and n and given is None and own == "accuracy" else None
    return {
        "accuracy": accuracy,
        "score": evidence.get("score", accuracy),
        "score_name": own,
        "interval": clipped(own, given) if given is not None else counted,
        "others": dict(evidence.get("others", {})),
        "after": dict(evidence.get("after", {})),
        **{key: evidence.get(key) for key in PICTURES},
        "loss": evidence.get("loss"),
        "non_finite": evidence.get("non_finite"),
        "first_non_finite": evidence.get("first_non_finite"),
        "n": n,
        "confusion": confusion,
        "class_names": evidence.get("class_names"),
        "per_class": [row[i] / sum(row) if sum(row) else None for i, row in enumerate(confusion)]
        if confusion
        else None,
        "val_accuracy": _val_accuracy(fine),
        "val_score": fine.expected.value if fine.expected is not None else None,
        "val_n": fine.val_n,
        "stage_of_checkpoint": str(winner["checkpoint"]).partition("/")[0],
        "params": dict(winner.get("params", {})),
        "mistakes": evidence.get("mistakes", []),
    }


def _val_accuracy(fine: FineMetrics) -> float | None:
    """Return what val promised: what fine expects on new data where accuracy was monitored, else the best."""
    value = fine.expected.value if fine.expected is not None and fine.monitor == "val_accuracy" else None
    return value if value is not None else fine.best_val_accuracy


def _unsure(winner: Mapping[str, Any]) -> str:
    """Say what is missing of a winner that no finished search has named."""
    if not winner.get("so_far"):
        return ""
    trained, of = winner.get("trained_epochs"), winner.get("epochs")
    length = f" for {trained} of its {plural(of, 'epoch')}" if trained and of else ""
    return f" The search has not ended: this is the best trial of {winner['so_far']} so far, trained once{length}."


def _headline(metrics: Mapping[str, Any]) -> str:
    if metrics["score"] is None:
        return "The winner could not be evaluated on the test split."
    name = str(metrics["score_name"]).replace("_", " ")
    within = "" if metrics["interval"] is None else ", 95 % interval {:.4f} to {:.4f}".format(*metrics["interval"])
    text = f"Test {name} {metrics['score']:.4f}{within}"
    if metrics["score_name"] != "accuracy":
        return text + (f"; val promised {metrics['val_score']:.4f}." if metrics["val_score"] is not None else ".")
    return text + (f"; val promised {metrics['val_accuracy']:.4f}." if metrics["val_accuracy"] is not None else ".")
