"""Rules over one instrumented step and the evaluation (check-init): codes IN11x."""

from __future__ import annotations

from tuner.checks.cards import found, rule, some
from tuner.checks.weight_decay.evidence import WeightDecay
from tuner.core.result import Finding


@rule(
    "IN115",
    "decay-not-applied",
    "check-init",
    meaning="Weight decay does not do what the recipe says.",
    detected="A step with zero gradients must shrink exactly the decayed parameters, and none with decay off.",
    why="The weight decay that is tuned later would have no effect, or hit parameters that it should not.",
    fix="Pass weight_decay on to the optimizer (and to every group that should decay).",
    confused_with="Groups without decay for biases and normalisation, which are right; parameters that are 0.",
    source="CS231n notes, sanity checks: raising the regularisation must raise its effect",
)
def decay_not_applied(answer: WeightDecay) -> Finding | None:
    asked, groups = answer.asked, answer.in_groups
    if asked and not any(groups):
        title = f"the recipe asks for weight decay {asked:g}, the optimizer's groups have none"
        return found("IN115", "warn", title, evidence=answer.to_json())
    if answer.not_shrunk:
        title = f"a step with zero gradients does not shrink: {some(answer.not_shrunk)}"
        return found("IN115", "warn", title, evidence=answer.to_json())
    moved = [*answer.moved_with_decay_off, *answer.moved_though_exempt]
    if moved:
        title = f"parameters move on zero gradients with weight decay off: {some(moved)}"
        return found("IN115", "warn", title, evidence=answer.to_json())
    return None
