"""Rules over the loss function itself, asked about free outputs (check-init): codes IN104 to IN109, IN146, IN148."""

from __future__ import annotations

import math

from tuner.checks.cards import Missing, found, number, rule
from tuner.checks.initial_loss.evidence import InitialLoss
from tuner.checks.limits import Limit
from tuner.checks.loss_function.evidence import LossFunction
from tuner.core.result import Finding

FLOOR_GAP = Limit("floor gap", 0.02, "of the loss at uniform outputs", "derived: what the search of a floor leaves")
STRONG_SMOOTHING = Limit(
    "strong smoothing",
    0.7,
    "of the loss at uniform outputs",
    "Szegedy et al. 2016, section 7: smoothing is 0.1, whose floor is a fifth",
)


@rule(
    "IN104",
    "double-softmax",
    "check-init",
    meaning="The model squashes its outputs (softmax, sigmoid, tanh) and the loss squashes them again.",
    detected="The outputs stay within their range however any one parameter is changed, and the least loss over "
    "outputs of that range is clearly above the least loss over free outputs.",
    why="No weights get the loss below that floor, and gradients shrink as the model grows confident: training is "
    "slow and stalls.",
    fix="Give the loss the raw outputs of the last layer: remove the softmax, sigmoid or tanh at the end of the model.",
    confused_with="log_softmax before cross-entropy, which changes nothing; label smoothing, whose floor is the same "
    "for free outputs.",
    source="derived: the floor of cross-entropy over softmax outputs is log(e + C - 1) - 1",
)
def squashed_outputs(function: LossFunction) -> Finding | None:
    free, own, uniform = (number(value) for value in (function.free_floor, function.own_floor, function.uniform))
    squashed = {"unit": "within 0..1 (sigmoid)", "signed": "within -1..1 (tanh)"}.get(function.kind)
    if squashed is None and not function.kind.startswith("probabilities"):
        return None
    if free is None or own is None or uniform is None:
        raise Missing("the loss has no finite floor over free outputs to compare with")
    if own - free <= FLOOR_GAP * abs(uniform - free):
        return None
    what = squashed or "probabilities (softmax)"
    title = f"the outputs are {what}: the loss stays above {own:.3f}, free outputs reach {free:.3f}"
    facts = {"kind": function.kind, "own_floor": own, "free_floor": free, "uniform": uniform}
    return found("IN104", "error", title, evidence=facts)


@rule(
    "IN105",
    "loss-mismatch",
    "check-init",
    meaning="The loss falls without end as outputs grow, takes probabilities for log-probabilities, or pairs nothing.",
    detected="The loss function is minimised over free outputs of the model's kind; its value at uniform outputs is "
    "-1/C; or it stays the same when the targets of a batch change places (a broadcast of shapes). A warning where it "
    "is the same at any targets.",
    why="Training drives the outputs to infinity, or weighs every example the same; neither is the likelihood.",
    fix="Use cross_entropy on raw outputs, or log_softmax before nll_loss; give outputs and targets one shape.",
    confused_with="nll_loss on log_softmax outputs, which is right; a sign error, which the next rule tells apart; a "
    "loss that compares outputs with each other on purpose.",
    source="derived: NLL on probabilities is -1/C at uniform outputs and -1 at best; on raw outputs it has no minimum",
)
def loss_does_not_fit(function: LossFunction, initial: InitialLoss | None) -> Finding | None:
    facts = function.only("kind", "uniform", "own_floor", "own_unbounded", "loss_name")
    if function.unpaired and function.untouched:
        title = "the loss is the same at any targets: nothing of them is learnt"
        remedy = (
            "Give the loss the targets; where they are not meant to be learnt (views of one image), accept the code."
        )
        return found("IN105", "warn", title, evidence=facts, remedy=remedy)
    if function.unpaired:
        title = "the loss stays the same when the targets change places: it pairs every output with all targets"
        return found("IN105", "error", title, evidence=facts)
    if function.own_unbounded and not function.rewards_wrong:
        title = f"the loss has no minimum over {function.kind}: it falls without end as the outputs grow"
        return found("IN105", "error", title, evidence=facts)
    uniform = number(function.uniform)
    if function.kind != "probabilities" or uniform is None or initial is None or not initial.output_shape:
        return None
    if math.isclose(uniform, -1 / initial.output_shape[0], rel_tol=1e-4):
        title = (
            f"the loss is minus the target's probability ({uniform:.3g} at uniform outputs), not minus its logarithm"
        )
        proved = function.loss_name in ("nll_loss", "nll", "torch.nn.NLLLoss", "torch.nn.functional.nll_loss")
        return found("IN105", "error" if proved else "warn", title, evidence=facts)
    return None


@rule(
    "IN106",
    "sign-flipped-loss",
    "check-init",
    meaning="The loss rises when the target's output rises.",
    detected="The loss function at uniform outputs with the targets' outputs moved a little up, and a little down.",
    why="Minimising it teaches the model to be wrong; accuracy falls below chance.",
    fix="Change the sign of the loss (or of the outputs, where they are distances or energies).",
    confused_with="Outputs that are distances by design: then the argmax of the accuracy is what is wrong.",
    source="CS231n notes; Full Stack Deep Learning, troubleshooting",
)
def sign_flipped(function: LossFunction) -> Finding | None:
    if function.rewards_wrong is None:
        raise Missing("the outputs are not one number per class")
    if not function.rewards_wrong:
        return None
    facts = {"uniform": function.uniform, "unbounded": function.own_unbounded}
    return found("IN106", "error", "raising the target's output raises the loss: its sign is wrong", evidence=facts)


@rule(
    "IN109",
    "smoothing-too-strong",
    "check-init",
    meaning="Even perfect outputs leave the loss near that of knowing nothing.",
    detected=f"The least loss over free outputs is more than {STRONG_SMOOTHING:.0%} of the loss at uniform outputs.",
    why="Little of the loss depends on the model: gradients are weak and the outputs stay flat.",
    fix="Lower loss.label_smoothing (0.1 is usual), or the constant part of the loss.",
    confused_with="Ordinary smoothing: 0.1 leaves 22 % for ten classes; squashed outputs, which have a floor of "
    "their own.",
    source="derived: the floor of smoothed cross-entropy is the entropy of the smoothed labels",
    explained_by=("IN104", "IN105"),
)
def floor_near_uniform(function: LossFunction) -> Finding | None:
    floor, uniform = number(function.free_floor), number(function.uniform)
    if floor is None or uniform is None or uniform <= 0:
        raise Missing("the loss has no finite floor over free outputs to compare with")
    if function.untouched:
        raise Missing("the loss is the same at any targets: what is perfect is not known")
    if floor <= STRONG_SMOOTHING * uniform:
        return None
    return found(
        "IN109",
        "warn",
        f"perfect outputs still have a loss of {floor:.3f}, uniform ones {uniform:.3f}",
        evidence={"floor": floor, "uniform": uniform},
    )


@rule(
    "IN146",
    "wrong-axis",
    "check-init",
    meaning="The loss takes its softmax over the examples of the batch, not over the classes.",
    detected="Random scores, with a number per class added for all examples, and with a number per example added for "
    "all classes: a softmax over classes sees the first alone, one over the batch the second alone.",
    why="Examples compete with each other for a class in place of classes for an example: the argmax says little.",
    fix="Set dim=1 (or -1) in softmax, log_softmax or logsumexp: the classes are the last dimension of the outputs.",
    confused_with="Contrastive losses, which compare examples on purpose; scores that are centred over the batch.",
    source="PyTorch documentation of softmax (dim); Full Stack Deep Learning, troubleshooting: softmax over wrong dim",
)
def softmax_over_batch(function: LossFunction) -> Finding | None:
    if function.over_batch is None:
        raise Missing("the outputs are not raw scores, one per class")
    if not function.over_batch:
        return None
    title = "the loss does not see what is added to the scores of one class for all examples: its softmax is over them"
    return found("IN146", "error", title, evidence={"loss_name": function.loss_name})
