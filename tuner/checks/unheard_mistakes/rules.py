"""Rules over what torch's loss functions are given, and over mistakes that a loss does not hear (check-init): IN17x."""

from __future__ import annotations

from tuner.checks.cards import Missing, found, rule
from tuner.checks.limits import Limit
from tuner.checks.unheard_mistakes.evidence import UnheardMistakes
from tuner.core.result import Finding

SILENT = Limit("silent", 0.2, "of the mistakes", "zoo: ties and clamps of the logarithm leave single ones")
ENOUGH = Limit("enough", 10, "wrong answers", "derived: one is then at most a tenth")


@rule(
    "IN173",
    "loss-mismatch",
    "check-init",
    meaning="Examples that are answered wrongly have no gradient: the loss does not hear these mistakes.",
    detected=f"The loss is asked about outputs drawn at random (unit spread): more than {SILENT:.0%} of the wrongly "
    "answered examples have a gradient of exactly 0 for every output.",
    why="What is wrong stays wrong: such examples are never learnt, however long the training.",
    fix="Clamp probabilities at a millionth, not where the model has still to learn; use cross_entropy on logits.",
    confused_with="Losses that leave out the hardest examples on purpose, against wrong labels (truncated losses); "
    "hinge losses, which are silent about what is answered right.",
    source="derived: a descent needs a slope wherever the answer is wrong",
)
def mistakes_without_gradient(answer: UnheardMistakes) -> Finding | None:
    if answer.wrong < ENOUGH or answer.silent is None:
        raise Missing(f"only {answer.wrong} answers of outputs at random are wrong")
    if answer.silent <= SILENT or ((answer.silent_right or 0.0) >= 1.0 - SILENT and answer.silent >= 1.0):
        return None  # where nothing has a gradient, other checks say so
    title = f"{answer.silent:.0%} of the wrongly answered examples have no gradient at outputs of unit spread"
    return found("IN173", "error", title, evidence=answer.to_json())
