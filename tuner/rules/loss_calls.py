"""Rules over what torch's loss functions are given, and over mistakes that a loss does not hear (check-init): IN17x."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.core.result import Finding
from tuner.rules import Missing, found, rule
from tuner.rules.init import probe

ABOVE = 1e-3  # a logarithm of a share is never above 0; single precision is off by less than this
SILENT = 0.2  # share of the mistakes; ties and clamps against log(0) leave single ones
ENOUGH = 10


def _calls(evidence: Mapping[str, Any], wants: str) -> list[Mapping[str, Any]]:
    calls = [call for call in probe(evidence, "loss_calls")["calls"] if call["wants"] == wants]
    if not calls:
        raise Missing(f"the loss calls no function of torch that wants {wants}")
    return calls


@rule(
    "IN170",
    "loss-mismatch",
    "check-init",
    meaning="A loss that expects log-probabilities is given something else.",
    detected=(
        "Calls of kl_div and nll_loss are watched while the loss is computed once: the logarithm of a share is never "
        f"above 0, and outputs above {ABOVE:g} are none."
    ),
    why="The value is no divergence (it is negative at outputs that say nothing), and its gradient all but vanishes "
    "where the model is surely wrong.",
    fix="Give log_softmax(outputs, 1) in place of softmax or of the outputs themselves.",
    confused_with="Outputs that are log-probabilities already: these are at most 0.",
    source="PyTorch documentation, KLDivLoss and NLLLoss: the input is expected to contain log-probabilities",
)
def not_log_probabilities(evidence: Mapping[str, Any]) -> Finding | None:
    """Probabilities or logits where their logarithm belongs."""
    for call in _calls(evidence, "log-probabilities"):
        if call["high"] is None or call["high"] <= ABOVE:
            continue
        kind = "probabilities" if call["are_shares"] else f"outputs up to {call['high']:.3g}"
        title = f"{call['function']} is given {kind}; it takes log-probabilities, which are never above 0"
        return found("IN170", "error", title, evidence=dict(call), confidence=0.99)
    return None


@rule(
    "IN171",
    "double-softmax",
    "check-init",
    meaning="cross_entropy is given probabilities: softmax is taken twice.",
    detected=(
        "Calls of cross_entropy are watched while the loss is computed once, whatever the model returns: scores that "
        "are all at least 0 and have a sum of 1 for every example have been through a softmax."
    ),
    why="Outputs in [0, 1] leave the loss a floor that no weights get below, and small gradients.",
    fix="Give cross_entropy the outputs before the softmax.",
    confused_with="Logits that happen to have a sum of 1: not for every example of a batch.",
    source="PyTorch documentation, CrossEntropyLoss: unnormalized logits",
)
def cross_entropy_of_probabilities(evidence: Mapping[str, Any]) -> Finding | None:
    """Probabilities where logits belong."""
    for call in _calls(evidence, "logits"):
        if call["are_shares"]:
            title = "cross_entropy is given probabilities: each row is at least 0 and has a sum of 1"
            return found("IN171", "error", title, evidence=dict(call), confidence=0.97)
    return None


@rule(
    "IN172",
    "loss-mismatch",
    "check-init",
    meaning="A loss that expects targets of -1 and 1 is given others.",
    detected="Calls of soft_margin_loss, hinge_embedding_loss, cosine_embedding_loss and margin_ranking_loss are "
    "watched while the loss is computed once: their targets must be -1 or 1.",
    why="A target of 0 takes the output out of the loss: what is not the class is never pushed down.",
    fix="Give 2 * targets - 1 in place of targets of 0 and 1.",
    source="PyTorch documentation, SoftMarginLoss: y is 1 or -1",
)
def targets_of_one_sign(evidence: Mapping[str, Any]) -> Finding | None:
    """Zeros where -1 belongs."""
    for call in _calls(evidence, "both signs"):
        values = call["target_values"]
        if set(values) <= {-1.0, 1.0}:
            continue
        listed = ", ".join(f"{value:g}" for value in values)
        title = f"{call['function']} is given targets of {listed}; it takes -1 and 1"
        return found("IN172", "error", title, evidence=dict(call), confidence=0.99)
    return None


@rule(
    "IN173",
    "loss-mismatch",
    "check-init",
    meaning="Examples that are answered wrongly have no gradient: the loss does not hear these mistakes.",
    detected=(
        "The loss is asked about outputs drawn at random (unit spread): more than "
        f"{SILENT:.0%} of the wrongly answered examples have a gradient of exactly 0 for every output."
    ),
    why="What is wrong stays wrong: such examples are never learnt, however long the training.",
    fix="Clamp probabilities at a millionth, not where the model has still to learn; use cross_entropy on logits.",
    confused_with="Losses that leave out the hardest examples on purpose, against wrong labels (truncated losses); "
    "hinge losses, which are silent about what is answered right.",
    source="derived: a descent needs a slope wherever the answer is wrong",
)
def mistakes_without_gradient(evidence: Mapping[str, Any]) -> Finding | None:
    """Wrong answers that the loss passes over."""
    answer = probe(evidence, "unheard_mistakes")
    if answer["wrong"] < ENOUGH or answer["silent"] is None:
        raise Missing(f"only {answer['wrong']} answers of outputs at random are wrong")
    if answer["silent"] <= SILENT or ((answer["silent_right"] or 0.0) >= 1.0 - SILENT and answer["silent"] >= 1.0):
        return None  # where nothing has a gradient, other checks say so
    title = f"{answer['silent']:.0%} of the wrongly answered examples have no gradient at outputs of unit spread"
    return found("IN173", "error", title, evidence=dict(answer), confidence=0.9)
