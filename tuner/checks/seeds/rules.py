"""The rule over models of different seeds (check-init): IN184."""

from __future__ import annotations

from tuner.checks.cards import found, rule
from tuner.checks.seeds.evidence import Seeds
from tuner.core.result import Finding


@rule(
    "IN184",
    "seeds-ignored",
    "check-init",
    meaning="Models of different seeds are equal to the last digit.",
    detected="The model is built with two seeds, and all parameters are compared.",
    why="Repeats with other seeds then differ by the order of the batches alone: the spread that is reported, and "
    "whether one configuration is better than another by more than it, say too little. One object that is handed out "
    "twice goes on with the weights of whoever trained it last.",
    fix="Build the model inside the function, at every call, and set no seed of your own there.",
    confused_with="Pretrained weights throughout, a new head left out; weights that are constant on purpose.",
    source="Bouthillier et al. 2021, Accounting for variance in machine learning benchmarks",
)
def seeds_change_nothing(seen: Seeds) -> Finding | None:
    if seen.same_object:
        return found("IN184", "warn", "build hands out one and the same model for every seed", evidence=seen.to_json())
    if not seen.equal:
        return None
    title = f"models of two seeds are equal in all {seen.parameters:,} parameters"
    return found("IN184", "warn", title, evidence=seen.to_json())
