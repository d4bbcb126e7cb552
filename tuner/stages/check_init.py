"""Is the loss before any update what theory says, and is one training step wired correctly?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field

from tuner.checks.data_scan.evidence import DataScan
from tuner.checks.engine import apply_rules
from tuner.checks.evidence import Evidence, NotMeasured, read_all
from tuner.checks.initial_loss.evidence import InitialLoss
from tuner.checks.input_scale.evidence import InputScale
from tuner.checks.one_step.evidence import OneStep
from tuner.checks.trials.evidence import Failure, Trials
from tuner.core.metrics import CheckInitMetrics as Metrics
from tuner.core.result import Record, Skipped, StageResult
from tuner.core.trial import WorkItem
from tuner.core.values import from_json
from tuner.recipe.model import Recipe
from tuner.stages import Inputs, StageSettings, Traits

NEEDS = ()
DEPENDS = ("data", "model", "loss", "optimizer", "schedule", "train")
TRAITS = Traits(any_failure_ends=True, user_error_ends=True)

MEASURE = "init_battery"


class Settings(StageSettings):
    """How much is looked at."""

    seeds: int = Field(3, ge=1, description="initialisations over which the loss is measured")
    examples: int = Field(512, ge=2, description="train examples for the loss and the layer statistics")


def plan(recipe: Recipe, inputs: Inputs, settings: Settings, history: Sequence[Record]) -> list[WorkItem]:
    """One trial that measures and trains nothing."""
    if history:
        return []
    looked = {"seeds": settings.seeds, "examples": settings.examples, "horizons": dict(inputs.planned_epochs)}
    return [WorkItem(inputs.spec(recipe, measure={MEASURE: looked}), number=0)]


def judge(recipe: Recipe, inputs: Inputs, settings: Settings, results: Sequence[Record]) -> StageResult[Metrics]:
    """Hold every measurement against the right answer."""
    evidence = evidence_of(recipe, results)
    findings, ran, skipped = apply_rules("check-init", evidence, recipe.accept.codes)
    trials = _failed(results)
    if trials.failures:
        skipped = [Skipped("every other check", "the trial failed, so nothing was measured")]
    skipped += [
        Skipped(f"measurement {name.replace('_', ' ')}", found.why)
        for name, found in sorted(evidence.items())
        if isinstance(found, NotMeasured) and found.applies and found.why not in {entry.why for entry in skipped}
    ]
    initial, scan = evidence.get("initial_loss"), evidence.get("data_scan")
    if isinstance(initial, InitialLoss) and initial.random_in_train_mode:
        why = "the forward in train mode is random though every dropout module is off; its noise is in the loss"
        skipped.append(Skipped("the loss at init without dropout", why))
    if isinstance(scan, DataScan) and scan.no_duplicates is not None:
        skipped.append(Skipped("equal examples within and across train and val", scan.no_duplicates))
    seen = {name: found.to_json() for name, found in evidence.items()}
    return StageResult("check-init", _headline(seen, trials), _metrics(seen), findings, ran, skipped)


def evidence_of(recipe: Recipe, results: Sequence[Record]) -> dict[str, Evidence | NotMeasured]:
    """Return what was measured, by measurement, with what the rules must know of the recipe, and what failed."""
    measured: dict[str, Evidence | NotMeasured] = {}
    for record in results:
        measured |= read_all(record.result.evidence.get(MEASURE, {}))
    step, scale = measured.get("one_step"), measured.get("input_scale")
    if isinstance(step, OneStep):
        measured["one_step"] = replace(step, batch_size=recipe.train.batch_size)
    if isinstance(scale, InputScale):
        measured["input_scale"] = replace(scale, normalize=recipe.data.normalize)
    return {**measured, "trials": _failed(results)}


def _failed(results: Sequence[Record]) -> Trials:
    errors = [record.result.error for record in results if record.result.error is not None]
    return Trials([Failure(error.kind, error.message) for error in errors])


def expected_loss(initial: Mapping[str, Any]) -> float | None:
    """Return what the loss function itself says where the outputs say nothing about the input."""
    return initial.get("loss_at_uniform")


def _headline(evidence: Mapping[str, Any], trials: Trials) -> str:
    if trials.failures:
        failure = trials.failures[0]
        return f"The check did not finish ({failure.kind}): {failure.message.splitlines()[0]}"
    initial = evidence.get("initial_loss", {})
    if initial.get("too_narrow"):
        return f"The model has {initial['output_shape'][0]} outputs for {initial['num_classes']} classes."
    if initial.get("init_losses") is None:
        return f"The loss at init could not be measured: {initial.get('skipped', 'no measurement')}"
    seeds = len(initial["init_losses"])
    spread = "" if initial["init_loss_std"] is None else f" +- {initial['init_loss_std']:.3f}"
    measured = "not finite" if initial["init_loss"] is None else f"{initial['init_loss']:.3f}{spread}"
    expected = expected_loss(initial)
    said = _expectation(initial, expected)
    return f"Loss at init {measured} over {seeds} seed{'s' * (seeds > 1)}; {said}."


def _expectation(initial: Mapping[str, Any], expected: float | None) -> str:
    """Say what the loss is of outputs that know nothing of the input, in the words of the task."""
    task = initial.get("task", "classification")
    if task == "embedding":
        return "nothing is expected, as it depends on the batch"
    name = "log 2" if task == "multilabel" else "log C"
    log_c = "" if initial["log_c"] is None else f" ({name} {initial['log_c']:.3f})"
    if expected is None:
        return f"unknown for this loss{log_c}"
    equal = " at the best constant output" if task == "regression" else ""
    return f"expected {expected:.3f}{equal}{log_c}"


def _metrics(evidence: Mapping[str, Any]) -> Metrics:
    initial = evidence.get("initial_loss", {})
    function = evidence.get("loss_function", {})
    scan = evidence.get("data_scan", {})
    of_loss = ("init_loss", "init_loss_std", "init_losses", "init_accuracy")
    keep = (*of_loss, "task", "score_name", "log_c", "prior_entropy", "num_classes")
    found = {
        **{key: initial.get(key) for key in keep if initial.get(key) is not None},
        "expected_loss": expected_loss(initial),
        "loss_at_uniform": initial.get("loss_at_uniform"),
        "loss_at_prior": initial.get("loss_at_prior"),
        "loss_floor": function.get("own_floor"),
        "outputs": {key: initial.get(key) for key in ("kind", "output_shape", "output_std")},
        "layers": evidence.get("layers", {}).get("layers", []),
        "data": {split: scan[split] for split in ("train", "val") if scan.get(split) is not None},
        "test_examples": scan.get("test_examples"),
        "baseline": scan.get("baseline"),
        "columns": scan.get("columns", {}),
        "copies_in_train": evidence.get("relatives", {}).get("rare_in_train"),
        "duplicates_across": scan.get("across"),
        "class_names": scan.get("class_names", []),
        "parameters": evidence.get("one_step", {}).get("parameters"),
        "trainable": evidence.get("one_step", {}).get("trainable"),
        "calls_per_update": _calls_per_update(evidence.get("one_step", {})),
        "decay": evidence.get("weight_decay", {}),
        "input_scale": evidence.get("input_scale", {}),
        "planned_rates": evidence.get("planned_rates", {}),
    }
    return from_json(Metrics, found)


def _calls_per_update(step: Mapping[str, Any]) -> int | None:
    """Return how often the training step is called for one update; None where it made none."""
    return max(1, round(step["calls"] / step["updates"])) if step.get("updates") else None
