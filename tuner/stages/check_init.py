"""Is the loss before any update what theory says, and is one training step wired correctly?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from tuner.core.metrics import CheckInitMetrics as Metrics
from tuner.core.result import Record, Skipped, StageResult
from tuner.core.trial import WorkItem
from tuner.core.values import from_json
from tuner.recipe.model import Recipe
from tuner.rules import apply_rules
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
    """Hold every probe's answer against the right one."""
    evidence = evidence_of(recipe, results)
    findings, ran, skipped = apply_rules("check-init", evidence, recipe.accept.codes)
    if evidence["failures"]:
        skipped = [Skipped("every other check", "the trial failed, so nothing was measured")]
    skipped += [
        Skipped(f"probe {name.replace('_', ' ')}", probe["skipped"])
        for name, probe in sorted(evidence.items())
        if isinstance(probe, Mapping)
        and "skipped" in probe
        and probe["skipped"] not in {entry.why for entry in skipped}
    ]
    if evidence.get("initial_loss", {}).get("random_in_train_mode"):
        why = "the forward in train mode is random though every dropout module is off; its noise is in the loss"
        skipped.append(Skipped("the loss at init without dropout", why))
    if (why := evidence.get("data_scan", {}).get("no_duplicates")) is not None:
        skipped.append(Skipped("equal examples within and across train and val", why))
    return StageResult("check-init", _headline(evidence), _metrics(evidence), findings, ran, skipped)


def evidence_of(recipe: Recipe, results: Sequence[Record]) -> dict[str, Any]:
    """Return what the probes found by probe, with the recipe's tables and why the trial failed, if it did."""
    evidence: dict[str, Any] = {"recipe": recipe.tables(), "failures": []}
    for record in results:
        evidence |= record.result.evidence.get(MEASURE, {})
        if record.result.error is not None:
            evidence["failures"].append({"kind": record.result.error.kind, "message": record.result.error.message})
    return evidence


def expected_loss(initial: Mapping[str, Any]) -> float | None:
    """Return what the loss function itself says where the outputs say nothing about the input."""
    return initial.get("loss_at_uniform")


def _headline(evidence: Mapping[str, Any]) -> str:
    if evidence["failures"]:
        failure = evidence["failures"][0]
        return f"The check did not finish ({failure['kind']}): {failure['message'].splitlines()[0]}"
    initial = evidence.get("initial_loss", {})
    if initial.get("too_narrow"):
        return f"The model has {initial['output_shape'][0]} outputs for {initial['num_classes']} classes."
    if "init_losses" not in initial:
        return f"The loss at init could not be measured: {initial.get('skipped', 'no measurement')}"
    seeds = len(initial["init_losses"])
    spread = "" if initial["init_loss_std"] is None else f" +- {initial['init_loss_std']:.3f}"
    measured = "not finite" if initial["init_loss"] is None else f"{initial['init_loss']:.3f}{spread}"
    expected = expected_loss(initial)
    log_c = f"log C {initial['log_c']:.3f}"
    if expected is None:
        said = f"the loss cannot be asked for its value at uniform outputs ({log_c})"
    else:
        equal = f"where all {initial['num_classes']} classes are equally likely"
        said = f"expected {expected:.3f}, what this loss gives {equal} ({log_c})"
    return f"Loss at init {measured} over {seeds} seed{'s' * (seeds > 1)}; {said}."


def _metrics(evidence: Mapping[str, Any]) -> Metrics:
    initial = evidence.get("initial_loss", {})
    function = evidence.get("loss_function", {})
    scan = evidence.get("data_scan", {})
    keep = ("init_loss", "init_loss_std", "init_losses", "log_c", "prior_entropy", "num_classes", "init_accuracy")
    found = {
        **{key: initial.get(key) for key in keep if initial.get(key) is not None},
        "expected_loss": expected_loss(initial),
        "loss_at_uniform": initial.get("loss_at_uniform"),
        "loss_at_prior": initial.get("loss_at_prior"),
        "loss_floor": function.get("own_floor"),
        "outputs": {key: initial.get(key) for key in ("kind", "output_shape", "output_std")},
        "layers": evidence.get("layers", {}).get("layers", []),
        "data": {split: scan[split] for split in ("train", "val") if split in scan},
        "test_examples": scan.get("test_examples"),
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
