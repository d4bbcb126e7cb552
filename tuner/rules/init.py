"""Rules over the loss before any update (check-init): codes IN10x."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tuner.core.result import Finding
from tuner.rules import Missing, found, rule

# logits of spread s add about s**2 / 2 to log C; healthy heads stay well below twice the loss at uniform outputs
TOO_HIGH = 2.0
TOO_LOW = 0.8
# a gap between floors that is no more than this share of the loss at uniform outputs is numerical
FLOOR_GAP = 0.02
STRONG_SMOOTHING = 0.7


def probe(evidence: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return what a probe found; raise Missing, with the probe's own reason, where it found nothing."""
    answer = evidence.get(name)
    if not answer:
        raise Missing(f"the probe {name.replace('_', ' ')} did not run")
    if "skipped" in answer:
        raise Missing(answer["skipped"])
    return answer


def number(value: Any) -> float | None:
    """Return a finite number, or None."""
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


def _initial(evidence: Mapping[str, Any]) -> Mapping[str, Any]:
    initial = probe(evidence, "initial_loss")
    if "init_losses" not in initial:
        raise Missing("the model has fewer outputs than there are classes, so the loss was not computed")
    return initial


@rule(
    "IN100",
    "not-measured",
    "check-init",
    meaning="The check could not be made at all.",
    detected="The trial failed, or the loss at init could not be computed.",
    why="Without it nothing later can be concluded.",
    fix="Read the message: it names the call that failed.",
)
def nothing_measured(evidence: Mapping[str, Any]) -> Finding | None:
    """No loss at init."""
    if evidence.get("failures"):
        failure = evidence["failures"][0]
        first = failure["message"].splitlines()[0] if failure["message"] else failure["kind"]
        return found("IN100", "error", f"the trial failed ({failure['kind']}): {first}", evidence=failure)
    initial = evidence.get("initial_loss") or {"skipped": "the probe did not run"}
    if "skipped" in initial:
        return found("IN100", "error" if initial.get("raised") else "warn",
                     f"the loss at init could not be measured: {initial['skipped']}", evidence=dict(initial))  # fmt: skip
    return None


@rule(
    "IN101",
    "precision-problem",
    "check-init",
    meaning="The loss of the fresh model is NaN or infinite.",
    detected="isfinite on the loss of every seed, in single precision.",
    why="No update can follow from it.",
    fix="Look for NaN inputs, a log or a division of 0, exploding activations (table of layers), or a loss that expects probabilities.",
    confused_with="NaN that comes only after updates: a matter of the rate.",
    source="TheDeepChecker; PyTorch Lightning detect_anomaly",
)
def loss_not_finite(evidence: Mapping[str, Any]) -> Finding | None:
    """NaN or infinity before any update."""
    losses = _initial(evidence)["init_losses"]
    bad = sum(number(value) is None for value in losses)
    if not bad:
        return None
    return found("IN101", "error", f"the loss at init is not finite for {bad} of {len(losses)} seeds",
                 evidence={"init_losses": losses})  # fmt: skip


@rule(
    "IN102",
    "bad-init-exploding",
    "check-init",
    meaning="The fresh model is confidently wrong: its loss is far above that of knowing nothing.",
    detected="The loss at init, averaged over seeds, is more than twice the loss function's own value at uniform outputs.",
    why="The first steps only undo the initialisation, or the units that it saturates never recover.",
    fix="Normalise the inputs; use a Kaiming or Xavier initialisation; make the last layer's weights small or zero.",
    confused_with="Logits of ordinary spread, which add a few tenths; a summed loss; a loss with another value at uniform outputs.",
    source="CS231n notes, sanity checks; Karpathy, A Recipe for Training Neural Networks; TheDeepChecker (2 log C)",
)
def loss_too_high(evidence: Mapping[str, Any]) -> Finding | None:
    """A loss at init far above uniform outputs."""
    initial = _initial(evidence)
    loss, expected = number(initial["init_loss"]), number(initial["loss_at_uniform"])
    if loss is None or expected is None or expected <= 0:
        raise Missing("the loss function gives no positive value at uniform outputs to compare with")
    if loss <= TOO_HIGH * expected:
        return None
    return found(
        "IN102",
        "warn",
        f"the loss at init is {loss:.3g}, {loss / expected:.1f} times the {expected:.3g} of uniform outputs",
        evidence={"init_loss": loss, "loss_at_uniform": expected, "output_std": initial["output_std"]},
        confidence=0.8,
    )


@rule(
    "IN103",
    "target-leak",
    "check-init",
    meaning="Before any update the loss is lower than ignoring the input allows.",
    detected="Every seed's loss at init lies well below both the value at uniform outputs and at the class prior.",
    why="Something knows the labels: pretrained weights, which is fine, or an input that holds the label.",
    fix="If the weights are not pretrained, look for the label among the inputs.",
    confused_with="Pretrained weights.",
    source="CS231n notes, sanity checks",
)
def loss_too_low(evidence: Mapping[str, Any]) -> Finding | None:
    """A loss at init that takes knowledge."""
    initial = _initial(evidence)
    losses = [number(value) for value in initial["init_losses"]]
    known = [number(initial[key]) for key in ("loss_at_uniform", "loss_at_prior")]
    levels = [value for value in known if value is not None and value > 0]
    if None in losses or len(levels) < 2:
        raise Missing("the loss function gives no values at uniform outputs and at the class prior to compare with")
    highest, level = max(v for v in losses if v is not None), min(levels)
    if highest >= TOO_LOW * level or (number(initial.get("init_accuracy")) or 0) < 2 / initial["num_classes"]:
        return None
    return found("IN103", "note", f"the loss at init is {highest:.3g}, below the {level:.3g} of ignoring the input",
                 evidence={"init_losses": losses, "level": level, "init_accuracy": initial["init_accuracy"]},
                 confidence=0.5)  # fmt: skip


@rule(
    "IN104",
    "double-softmax",
    "check-init",
    meaning="The model squashes its outputs (softmax, sigmoid, tanh) and the loss squashes them again.",
    detected=(
        "The outputs stay within their range however any one parameter is changed, and the least loss over outputs of that "
        "range is clearly above the least loss over free outputs."
    ),
    why="No weights get the loss below that floor, and gradients shrink as the model grows confident: training is slow and stalls.",
    fix="Give the loss the raw outputs of the last layer: remove the softmax, sigmoid or tanh at the end of the model.",
    confused_with="log_softmax before cross-entropy, which changes nothing; label smoothing, whose floor is the same for free outputs.",
    source="derived: the floor of cross-entropy over softmax outputs is log(e + C - 1) - 1",
)
def squashed_outputs(evidence: Mapping[str, Any]) -> Finding | None:
    """Outputs squashed before a loss that does it itself."""
    function = probe(evidence, "loss_function")
    free, own, uniform = (number(function[key]) for key in ("free_floor", "own_floor", "uniform"))
    if function["kind"] not in ("probabilities", "unit", "signed"):
        return None
    if free is None or own is None or uniform is None:
        raise Missing("the loss has no finite floor over free outputs to compare with")
    if own - free <= FLOOR_GAP * abs(uniform - free):
        return None
    kinds = {
        "probabilities": "probabilities (softmax)",
        "unit": "within 0..1 (sigmoid)",
        "signed": "within -1..1 (tanh)",
    }
    return found(
        "IN104",
        "error",
        f"the outputs are {kinds[function['kind']]}: the loss cannot fall below {own:.3f}, on free outputs it reaches {free:.3f}",
        evidence={"kind": function["kind"], "own_floor": own, "free_floor": free, "uniform": uniform},
    )


@rule(
    "IN105",
    "loss-mismatch",
    "check-init",
    meaning="The loss falls without end as outputs grow, or takes its probabilities for log-probabilities.",
    detected="The loss function is minimised over free outputs of the model's kind; and its value at uniform outputs is -1/C.",
    why="Training drives the outputs to infinity, or weighs every example the same; neither is the likelihood.",
    fix="Use cross_entropy on raw outputs, or log_softmax before nll_loss.",
    confused_with="nll_loss on log_softmax outputs, which is right; a sign error, which the next rule tells apart.",
    source="derived: NLL on probabilities is -1/C at uniform outputs and -1 at best; on raw outputs it has no minimum",
)
def loss_does_not_fit(evidence: Mapping[str, Any]) -> Finding | None:
    """A loss that does not fit the model's outputs."""
    function = probe(evidence, "loss_function")
    facts = {key: function[key] for key in ("kind", "uniform", "own_floor", "own_unbounded", "loss_name")}
    if function["own_unbounded"] and not function["rewards_wrong"]:
        title = f"the loss has no minimum over {function['kind']}: it falls without end as the outputs grow"
        return found("IN105", "error", title, evidence=facts)
    uniform, initial = number(function["uniform"]), evidence.get("initial_loss", {})
    if function["kind"] != "probabilities" or uniform is None or not initial.get("output_shape"):
        return None
    if math.isclose(uniform, -1 / initial["output_shape"][0], rel_tol=1e-4):
        title = (
            f"the loss is minus the target's probability ({uniform:.3g} at uniform outputs), not minus its logarithm"
        )
        proved = function["loss_name"] in ("nll_loss", "nll", "torch.nn.NLLLoss", "torch.nn.functional.nll_loss")
        return found("IN105", "error" if proved else "warn", title, evidence=facts, confidence=0.95)
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
def sign_flipped(evidence: Mapping[str, Any]) -> Finding | None:
    """A loss that rewards wrong answers."""
    function = probe(evidence, "loss_function")
    if function["rewards_wrong"] is None:
        raise Missing("the outputs are not one number per class")
    if not function["rewards_wrong"]:
        return None
    facts = {"uniform": function["uniform"], "unbounded": function["own_unbounded"]}
    return found("IN106", "error", "raising the target's output raises the loss: its sign is wrong", evidence=facts)


@rule(
    "IN107",
    "summed-loss",
    "check-init",
    meaning="The loss grows with the number of examples in the batch.",
    detected="The loss on a batch together with its copy is twice the loss on the batch.",
    why="The gradient, and with it the useful rate, then depends on the batch size.",
    fix='Average over the batch (reduction = "mean"), or keep in mind that the rate goes with 1 / batch size.',
    confused_with="A rate that is too high; a sum on purpose, with a rate to match.",
    source="TheDeepChecker",
)
def summed_loss(evidence: Mapping[str, Any]) -> Finding | None:
    """A loss that is a sum over the batch."""
    initial = _initial(evidence)
    ratio = number(initial["doubled_batch_ratio"])
    if ratio is None:
        raise Missing("the loss on a doubled batch could not be compared")
    if abs(ratio - 2) > 0.01:
        return None
    return found("IN107", "warn", f"the loss on a doubled batch is {ratio:.3f} times as large: it is summed, not averaged",
                 evidence={"ratio": ratio, "batch_size": initial["batch_size"], "init_loss": initial["init_loss"]})  # fmt: skip


@rule(
    "IN108",
    "wrong-label-range",
    "check-init",
    meaning="The number of outputs is not the number of classes.",
    detected="The shape of the outputs against the classes in the data.",
    why="With fewer outputs the loss crashes; with more, the model first learns to switch the unused ones off.",
    fix="Make the last layer num_classes wide, or set data.num_classes.",
    confused_with="An open-set or shared head that is wider on purpose.",
    source="CS231n notes, sanity checks: the loss at init is the logarithm of the head's width",
)
def head_width(evidence: Mapping[str, Any]) -> Finding | None:
    """A head that does not fit the classes."""
    initial = probe(evidence, "initial_loss")
    shape, classes = initial["output_shape"], initial["num_classes"]
    if len(shape) != 1 or shape[0] < 2:
        raise Missing("the outputs are not one number per class")
    if shape[0] == classes:
        return None
    facts = {"outputs": shape[0], "num_classes": classes}
    title = f"the model has {shape[0]} outputs for {classes} classes"
    return found("IN108", "error" if shape[0] < classes else "warn", title, evidence=facts)


@rule(
    "IN109",
    "smoothing-too-strong",
    "check-init",
    meaning="Even perfect outputs leave the loss near that of knowing nothing.",
    detected="The least loss over free outputs is more than 70 % of the loss at uniform outputs.",
    why="Little of the loss depends on the model: gradients are weak and the outputs stay flat.",
    fix="Lower loss.label_smoothing (0.1 is usual), or the constant part of the loss.",
    confused_with="Ordinary smoothing: 0.1 leaves 22 % for ten classes; squashed outputs, which have a floor of their own.",
    source="derived: the floor of smoothed cross-entropy is the entropy of the smoothed labels",
)
def floor_near_uniform(evidence: Mapping[str, Any]) -> Finding | None:
    """A loss whose floor is high."""
    function = probe(evidence, "loss_function")
    floor, uniform = number(function["free_floor"]), number(function["uniform"])
    if floor is None or uniform is None or uniform <= 0:
        raise Missing("the loss has no finite floor over free outputs to compare with")
    if floor <= STRONG_SMOOTHING * uniform:
        return None
    return found("IN109", "warn", f"perfect outputs still have a loss of {floor:.3f}, uniform ones {uniform:.3f}",
                 evidence={"floor": floor, "uniform": uniform}, confidence=0.8)  # fmt: skip
