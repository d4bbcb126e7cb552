"""Rules over what torch's loss functions are given, and over mistakes that a loss does not hear (check-init): IN17x."""

from __future__ import annotations

from dataclasses import asdict

from tuner.checks.cards import found, rule
from tuner.checks.limits import Limit
from tuner.checks.loss_calls.evidence import LossCall, LossCalls
from tuner.core.result import Finding

ABOVE = Limit("above", 1e-3, "log-probability", "derived: a logarithm of a share is never above 0; fp32 is off by less")


def _calls(seen: LossCalls, wants: str) -> list[LossCall]:
    return [call for call in seen.calls if call.wants == wants]


@rule(
    "IN170",
    "loss-mismatch",
    "check-init",
    meaning="A loss that expects log-probabilities is given something else.",
    detected="Calls of kl_div and nll_loss are watched while the loss is computed once: the logarithm of a share is "
    f"never above 0, and outputs above {ABOVE:g} are none.",
    why="The value is no divergence (it is negative at outputs that say nothing), and its gradient all but vanishes "
    "where the model is surely wrong.",
    fix="Give log_softmax(outputs, 1) in place of softmax or of the outputs themselves.",
    confused_with="Outputs that are log-probabilities already: these are at most 0.",
    source="PyTorch documentation, KLDivLoss and NLLLoss: the input is expected to contain log-probabilities",
)
def not_log_probabilities(seen: LossCalls) -> Finding | None:
    for call in _calls(seen, "log-probabilities"):
        if call.high is None or call.high <= ABOVE:
            continue
        kind = "probabilities" if call.are_shares else f"outputs up to {call.high:.3g}"
        title = f"{call.function} is given {kind}; it takes log-probabilities, which are never above 0"
        return found("IN170", "error", title, evidence=asdict(call))
    return None


@rule(
    "IN171",
    "double-softmax",
    "check-init",
    meaning="cross_entropy is given probabilities: softmax is taken twice.",
    detected="Calls of cross_entropy are watched while the loss is computed once, whatever the model returns: scores "
    "that are all at least 0 and have a sum of 1 for every example have been through a softmax.",
    why="Outputs in [0, 1] leave the loss a floor that no weights get below, and small gradients.",
    fix="Give cross_entropy the outputs before the softmax.",
    confused_with="Logits that happen to have a sum of 1: not for every example of a batch.",
    source="PyTorch documentation, CrossEntropyLoss: unnormalized logits",
)
def cross_entropy_of_probabilities(seen: LossCalls) -> Finding | None:
    for call in _calls(seen, "logits"):
        if call.are_shares:
            title = "cross_entropy is given probabilities: each row is at least 0 and has a sum of 1"
            return found("IN171", "error", title, evidence=asdict(call))
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
def targets_of_one_sign(seen: LossCalls) -> Finding | None:
    for call in _calls(seen, "both signs"):
        values = call.target_values
        if set(values) <= {-1.0, 1.0}:
            continue
        listed = ", ".join(f"{value:g}" for value in values)
        title = f"{call.function} is given targets of {listed}; it takes -1 and 1"
        return found("IN172", "error", title, evidence=asdict(call))
    return None
