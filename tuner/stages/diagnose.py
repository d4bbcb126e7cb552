"""What do the train and val curves say: train longer, regularise, grow, lower the rate?"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field

from tuner.checks.confirming.evidence import Confirming
from tuner.checks.curves.evidence import Curves
from tuner.checks.curves.rules.tail import NO_GAP
from tuner.checks.engine import apply_rules
from tuner.checks.evidence import Evidence, NotMeasured, read
from tuner.core.confirming_arms import FULL_PRECISION
from tuner.core.formatting import plural
from tuner.core.metrics import CheckInitMetrics, ConfirmingRun, FineMetrics
from tuner.core.metrics import DiagnoseMetrics as Metrics
from tuner.core.result import Finding, Record, Skipped, StageResult
from tuner.core.statistics import binomial_noise, robust_sigma
from tuner.core.trial import WorkItem
from tuner.core.values import from_json
from tuner.recipe.model import Recipe
from tuner.search import scores
from tuner.search.band import CONSTANT
from tuner.search.confirm import Arm, Winner, answers, first_arms, refuted, second_arms
from tuner.search.curve_facts import curve_facts
from tuner.search.knobs import Knobs
from tuner.stages import Inputs, StageSettings, Traits, earlier

NEEDS = ("fine",)
DEPENDS = ("data", "model", "loss", "optimizer", "schedule", "train", "search")
TRAITS = Traits(repeats="always", proposes_changes=True, judges_logs=True)
REPORTED = ("train_accuracy", "val_accuracy", "train_loss", "val_loss", "gap", "gap_interval", "best_epoch", "epochs")

ANNEALED = 0.5  # share of the highest rate below which a schedule has lowered it


class Settings(StageSettings):
    """What the diagnosis measures against, and whether it may train to tell look-alikes apart."""

    target: float = Field(0.95, gt=0, le=1, description="train accuracy below which a model without a gap underfits")
    confirm: bool = Field(True, description="tell look-alikes apart by short confirming runs of the winner")
    seeds: int = Field(2, ge=1, description="seeds per confirming run")


def plan(recipe: Recipe, inputs: Inputs, settings: Settings, history: Sequence[Record]) -> list[WorkItem]:
    """Ask for the confirming runs of what the curves alone cannot tell; for none where they show nothing doubtful.

    First what may be behind the findings, each beside a control; then what the answers leave open.
    """
    facts = _facts(recipe, inputs, settings)
    if facts is None:
        return []
    asked = _confirming(recipe, inputs, settings, facts, history)
    done = {record.item.key for record in history}
    return [item for _, items in asked for item in items if item.key not in done]


def _facts(recipe: Recipe, inputs: Inputs, settings: Settings) -> dict[str, Any] | None:
    """Return what the winner's curves say; None where there is no winner."""
    records = inputs.trials.get("fine", ())
    trial = inputs.choice("fine").get("trial")
    winner = next((record for record in records if record.result.id == trial), None)
    if winner is None or not (winner.rows("val") or winner.rows("train")):
        return None
    group = [record for record in records if scores.same_params(record.params, winner.params)]
    known = scores.val_facts(inputs.metrics(CheckInitMetrics), records)
    facts = curve_facts(winner, group, known["val_n"])
    facts["params"] = dict(winner.params)
    facts["score"] = scores.best_score(winner, scores.monitor_of(recipe, inputs.metrics(CheckInitMetrics)))
    facts["majority_share"] = known["majority_share"] or inputs.metrics(FineMetrics).majority_share
    facts["target"] = settings.target
    checked = inputs.metrics(CheckInitMetrics)
    facts["monitor"] = scores.monitor_of(recipe, checked)
    facts["own_evaluate"] = recipe.train.evaluate is not None
    facts["drops_out"] = any("Dropout" in layer.type for layer in checked.layers)
    facts["copies_in_train"] = checked.copies_in_train
    asked = winner.item.spec.tables["loss"]
    facts["plain_cross_entropy"] = asked["name"] == "cross_entropy" and not any(
        value for key, value in asked.items() if key != "name"
    )
    facts["predictions"] = winner.result.evidence.get(scores.PREDICTIONS, {})
    facts["precision"] = winner.item.spec.precision
    facts["dropout_in_recipe"] = winner.params.get("model.dropout", recipe.value("model.dropout")) is not None
    return facts


def _evidence(inputs: Inputs, facts: Mapping[str, Any]) -> dict[str, Evidence | NotMeasured]:
    """Return what the rules judge: the curves, the winner's answers, and the confirming runs that are made."""
    runs = facts.get("confirmed")
    answers = {name: ConfirmingRun(**answer) for name, answer in runs.items()} if runs is not None else None
    return {
        "curves": Curves.from_json(facts),
        "val_predictions": read("val_predictions", facts["predictions"]),
        "confirming": Confirming(answers, facts.get("unconfirmed"), facts["dropout_in_recipe"]),
        "earlier": earlier(inputs),
    }


def _confirming(
    recipe: Recipe, inputs: Inputs, settings: Settings, facts: Mapping[str, Any], history: Sequence[Record]
) -> list[tuple[Arm, list[WorkItem]]]:
    """Return the arms that are asked for so far, with their work items; the second lot when the first is answered."""
    if _unconfirmed(inputs, settings, facts):
        return []
    winner = _winner(recipe, facts)
    seen = apply_rules("diagnose", _evidence(inputs, facts), recipe.accept.codes)[0]
    codes = {finding.code for finding in seen if not finding.accepted}
    done = {record.item.key: record for record in history}
    asked: list[tuple[Arm, list[WorkItem]]] = []

    def ask(arms: Sequence[Arm]) -> None:
        for arm in arms:
            at = sum(len(items) for _, items in asked)
            seeds = range(recipe.seed, recipe.seed + settings.seeds)
            asked.append((arm, [_item(inputs, winner, arm, seed, at + i) for i, seed in enumerate(seeds)]))

    ask(first_arms(codes, winner))
    if all(item.key in done for _, items in asked for item in items):
        ask(second_arms(codes, winner, _answers(asked, done, facts)))
    return asked


def _unconfirmed(inputs: Inputs, settings: Settings, facts: Mapping[str, Any]) -> str | None:
    """Return why no confirming run can be made, if so."""
    if not settings.confirm:
        return "confirming runs are switched off"
    if inputs.choice("fine").get("checkpoint") is None:
        return "fine has kept no weights of the winner, so there are no confirming runs"
    if facts["val_accuracy"] is None or not facts["lrs"]:
        return "the winner's curve has no accuracy or no rate, so there are no confirming runs"
    return None


def _answers(
    asked: Sequence[tuple[Arm, Sequence[WorkItem]]], done: Mapping[Any, Record], facts: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    return answers([(arm, [done[item.key] for item in items if item.key in done]) for arm, items in asked], facts)


def _winner(recipe: Recipe, facts: Mapping[str, Any]) -> Winner:
    rates, epochs = facts["lrs"], facts["epochs"]
    annealed = rates[-1] < ANNEALED * max(rates)
    steps = facts["steps"] / epochs
    rate = statistics.median(rates)
    fitted = facts["train_accuracy"] is not None and facts["train_accuracy"] >= facts["target"]
    has_gap = fitted or (facts["gap_interval"] is not None and facts["gap_interval"][0] > NO_GAP)
    return Winner(
        recipe, facts["params"], rate, epochs, steps, facts["precision"], annealed, has_gap, facts["drops_out"]
    )


def _item(inputs: Inputs, winner: Winner, arm: Arm, seed: int, number: int) -> WorkItem:
    """Make the work item of an arm: a horizon of its own from new weights, or a measure that trains on."""
    precision = "fp32" if arm.name == FULL_PRECISION else winner.precision
    if arm.fresh:
        params = {**winner.params, **arm.changes}
        horizon = winner.epochs_from_scratch
        return WorkItem(
            inputs.spec(winner.recipe, params, seed=seed, horizon_epochs=horizon, precision=precision), number
        )
    arguments = {"checkpoint": inputs.choice("fine")["checkpoint"], "epochs": winner.epochs_on, "dropout": arm.dropout}
    params = {**winner.params, "optimizer.lr": winner.rate, **arm.changes}
    spec = inputs.spec(winner.recipe, params, seed=seed, precision=precision, measure={"continued": arguments})
    return WorkItem(replace(spec, tables={**spec.tables, "schedule": dict(CONSTANT)}), number)


def judge(recipe: Recipe, inputs: Inputs, settings: Settings, results: Sequence[Record]) -> StageResult[Metrics]:
    """Say what the winner's curves and the confirming runs show, and which changes of the recipe follow."""
    trial = inputs.choice("fine").get("trial")
    facts = _facts(recipe, inputs, settings)
    if facts is None:
        why = "fine has no winner" if trial is None else f"the winner's curve ({trial}) is not there"
        return StageResult("diagnose", f"Nothing to diagnose: {why}.", Metrics(), skipped=[Skipped("all", why)])
    asked = _confirming(recipe, inputs, settings, facts, results)
    facts["unconfirmed"] = _unconfirmed(inputs, settings, facts)
    if facts["unconfirmed"] is None:
        facts["confirmed"] = _answers(asked, {record.item.key: record for record in results}, facts)
    findings, ran, skipped = apply_rules("diagnose", _evidence(inputs, facts), recipe.accept.codes)
    knobs = Knobs(recipe, facts["params"], inputs.choice("fine").get("epochs") or facts["epochs"])
    findings = [replace(item, changes=_open(item, knobs, facts.get("confirmed") or {})) for item in findings]
    metrics = {key: facts[key] for key in REPORTED} | _noise(facts)
    metrics |= {"trial": trial, "curves_stage": _folder(inputs), "val_n": facts["val_n"], "params": facts["params"]}
    metrics["majority_share"] = facts["majority_share"]
    metrics |= {"score": facts["score"], "score_name": facts["monitor"].removeprefix("val_")}
    metrics["confirming"] = list(facts.get("confirmed", {}).values())
    choice = {"changes": [change.to_json() for change in _changes(findings)]}
    return StageResult(
        "diagnose", _headline(facts, findings), from_json(Metrics, metrics), findings, ran, skipped, choice
    )


def _open(finding: Finding, knobs: Knobs, confirmed: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Return the changes that a finding proposes, less those that a confirming run has just refuted."""
    changes = [change for proposal in finding.proposals for change in knobs.changes(proposal)]
    return [change for change in changes if not refuted(change.key, change.old, change.new, confirmed)]


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
    end = "." if findings else "; nothing to fix."
    if facts["gap"] is not None:
        said = f"Train accuracy {facts['train_accuracy']:.3f}, val {facts['val_accuracy']:.3f}"
        text = f"{said}, gap {100 * facts['gap']:.1f} points"
        if facts["gap_interval"] is not None:
            low, high = facts["gap_interval"]
            text += f" ({round(100 * low, 1) + 0.0:.1f} to {round(100 * high, 1) + 0.0:.1f})"  # + 0.0: not -0.0
    elif facts["val_accuracy"] is not None:
        text = f"Val accuracy {facts['val_accuracy']:.4f} {at}; no train subset to compare with"
    elif facts["best_epoch"] is None:
        text = f"{plural(facts['epochs'], 'epoch')} without a measured val"
    else:
        loss = facts["val_loss"]
        text = f"Best {at}" + (f", val loss {loss:.4g}" if loss is not None else "")
    return f"{text}{end}"
