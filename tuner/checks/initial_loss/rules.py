"""Rules over the loss before any update (check-init): codes IN10x."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from tuner.checks.cards import DoesNotApply, Missing, found, number, rule
from tuner.checks.evidence import NotMeasured
from tuner.checks.initial_loss.evidence import InitialLoss
from tuner.checks.limits import Limit
from tuner.checks.start_undone.evidence import StartUndone
from tuner.checks.trials.evidence import Trials
from tuner.core.result import Finding

TOO_HIGH = Limit(
    "too high", 2.0, "times the loss at uniform outputs", "TheDeepChecker (2 log C); logits of spread s add s**2 / 2"
)
MODEST = Limit(
    "modest", 4.0, "times the loss at uniform outputs", "derived: logits of a spread of 4; larger ones saturate units"
)
TOO_LOW = Limit(
    "too low", 0.8, "of the loss at uniform outputs", "derived: an untrained model is above it in all seeds"
)


@rule(
    "IN100",
    "not-measured",
    "check-init",
    meaning="The check could not be made at all.",
    detected="The trial failed, or the loss at init could not be computed.",
    why="Without it nothing later can be concluded.",
    fix="Read the message: it names the call that failed.",
)
def nothing_measured(trials: Trials, initial: InitialLoss | NotMeasured) -> Finding | None:
    if trials.failures:
        failure = trials.failures[0]
        first = failure.message.splitlines()[0] if failure.message else failure.kind
        return found("IN100", "error", f"the trial failed ({failure.kind}): {first}", evidence=asdict(failure))
    if isinstance(initial, InitialLoss):
        return None
    title = f"the loss at init could not be measured: {initial.why}"
    return found("IN100", "error" if initial.raised else "warn", title, evidence=initial.to_json())


def _computed(initial: InitialLoss) -> Sequence[float | None]:
    """Return the losses over the seeds; without them a rule cannot be applied."""
    if initial.init_losses is None:
        raise Missing("the model has fewer outputs than there are classes, so the loss was not computed")
    return initial.init_losses


@rule(
    "IN101",
    "precision-problem",
    "check-init",
    meaning="The loss of the fresh model is NaN or infinite.",
    detected="isfinite on the loss of every seed, in single precision.",
    why="No update can follow from it.",
    fix="Look for NaN inputs, a log or a division of 0, exploding activations (table of layers), or a loss that "
    "expects probabilities.",
    confused_with="NaN that comes only after updates: a matter of the rate.",
    source="TheDeepChecker; PyTorch Lightning detect_anomaly",
)
def loss_not_finite(initial: InitialLoss) -> Finding | None:
    losses = _computed(initial)
    bad = sum(number(value) is None for value in losses)
    if not bad:
        return None
    return found(
        "IN101",
        "error",
        f"the loss at init is not finite for {bad} of {len(losses)} seeds",
        evidence={"init_losses": list(losses)},
    )


@rule(
    "IN102",
    "bad-init-exploding",
    "check-init",
    meaning="The fresh model is confidently wrong: its loss is far above that of knowing nothing.",
    detected=f"The loss at init, averaged over seeds, is more than {TOO_HIGH} times the loss function's own value at "
    f"uniform outputs; of quantities far from 0, more than {MODEST} times the one at outputs of zero. A note where it "
    f"is at most {MODEST} times that of uniform outputs and the first updates bring it below.",
    why="The first steps only undo the initialisation, or the units that it saturates never recover.",
    fix="Normalise the inputs; use a Kaiming or Xavier initialisation; make the last layer's weights small or zero.",
    confused_with="Logits of ordinary spread, which add a few tenths; a summed loss; a loss with another value at "
    "uniform outputs.",
    source="CS231n notes, sanity checks; Karpathy, A Recipe for Training Neural Networks; TheDeepChecker (2 log C)",
    explained_by=("IN107", "IN131", "IN133", "unnormalised-input"),
)
def loss_too_high(initial: InitialLoss, start: StartUndone | None) -> Finding | None:
    _computed(initial)
    loss, expected = number(initial.init_loss), number(initial.loss_at_uniform)
    if loss is None or expected is None or expected <= 0:
        raise Missing("the loss function gives no positive value at uniform outputs to compare with")
    if loss / expected <= TOO_HIGH:
        return None
    zero = number(initial.loss_at_zero) or 0.0
    if TOO_HIGH * expected < zero and loss <= MODEST * zero:
        return None  # the values lie far from where an untrained model answers, which IN149 says
    title = f"the loss at init is {loss:.3g}, {loss / expected:.1f} times the {expected:.3g} of uniform outputs"
    facts = {"init_loss": loss, "loss_at_uniform": expected, "output_std": initial.output_std}
    undone = start.updates if start is not None and loss / expected <= MODEST else None
    if undone is None:
        return found("IN102", "warn", title, evidence=facts)
    title += f"; the first {undone} updates bring it below that"
    return found("IN102", "note", title, evidence={**facts, "updates": undone})


@rule(
    "IN149",
    "unnormalised-input",
    "check-init",
    meaning="The values to predict lie far from 0, which is about what an untrained model answers.",
    detected=f"The loss function at outputs of zero is more than {TOO_HIGH} times that at the best constant output.",
    why="The first updates move all outputs there, at rates that suit this and little else; nothing is wrong with it.",
    fix="Take the mean of train off the values of all splits and divide by its spread; or begin with the last layer's "
    "bias at the mean.",
    confused_with="Outputs that explode at init, whose loss is far above that of zeros as well.",
    source="derived: the mean square about 0 is the variance and the square of the mean",
)
def values_far_from_zero(initial: InitialLoss) -> Finding | None:
    zero, best = number(initial.loss_at_zero), number(initial.loss_at_uniform)
    if zero is None:
        raise DoesNotApply("the targets are no quantities")
    if best is None or best <= 0:
        raise Missing("the loss function gives no positive value at the best constant output")
    if zero <= TOO_HIGH * best:
        return None
    title = f"at outputs of zero the loss is {zero:.3g}, {zero / best:.1f} times the {best:.3g} of the best constant"
    return found("IN149", "note", title, evidence={"loss_at_zero": zero, "loss_at_uniform": best})


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
def loss_too_low(initial: InitialLoss) -> Finding | None:
    losses = [number(value) for value in _computed(initial)]
    known = [number(value) for value in (initial.loss_at_uniform, initial.loss_at_prior)]
    levels = [value for value in known if value is not None and value > 0]
    if None in losses or len(levels) < 2:
        raise Missing("the loss function gives no values at uniform outputs and at the class prior to compare with")
    highest, level = max(v for v in losses if v is not None), min(levels)
    if highest / level >= TOO_LOW or (number(initial.init_accuracy) or 0) < 2 / initial.num_classes:
        return None
    return found(
        "IN103",
        "note",
        f"the loss at init is {highest:.3g}, below the {level:.3g} of ignoring the input",
        evidence={"init_losses": list(losses), "level": level, "init_accuracy": initial.init_accuracy},
    )


@rule(
    "IN107",
    "summed-loss",
    "check-init",
    meaning="The loss depends on the number of examples in the batch.",
    detected="The loss on a batch together with its copy is twice the loss on the batch, or half of it, where a mean "
    "was divided by the number of examples once more.",
    why="The gradient, and with it the useful rate, then depends on the batch size.",
    fix='Average over the batch (reduction = "mean"), or keep in mind that the rate goes with 1 / batch size.',
    confused_with="A rate that is too high; a sum on purpose, with a rate to match.",
    source="TheDeepChecker",
)
def summed_loss(initial: InitialLoss) -> Finding | None:
    _computed(initial)
    ratio = number(initial.doubled_batch_ratio)
    if ratio is None:
        raise Missing("the loss on a doubled batch could not be compared")
    if min(abs(ratio - 2), abs(ratio - 0.5)) > 0.01:
        return None
    how = "summed, not averaged" if ratio > 1 else "divided by the number of examples once too often"
    return found(
        "IN107",
        "warn",
        f"the loss on a doubled batch is {ratio:.3f} times as large: it is {how}",
        evidence={"ratio": ratio, "batch_size": initial.batch_size, "init_loss": initial.init_loss},
    )


@rule(
    "IN108",
    "wrong-label-range",
    "check-init",
    meaning="The number of outputs is not the number of classes.",
    detected="The shape of the outputs against the classes in the data.",
    why="With fewer outputs the loss crashes; with more, the model first learns to switch the unused ones off.",
    fix="Make the last layer num_classes wide, or set data.num_classes.",
    confused_with="An open-set or shared head that is wider on purpose; a loss of ordered classes, which takes one "
    "output less than there are classes (a warning).",
    source="CS231n notes, sanity checks: the loss at init is the logarithm of the head's width",
)
def head_width(initial: InitialLoss) -> Finding | None:
    shape, classes = initial.output_shape, initial.num_classes
    if initial.task == "embedding":
        raise Missing("the outputs are features, of which there may be any number")
    if len(shape) != 1 or shape[0] < 2:
        raise Missing("the outputs are not one number per class")
    if shape[0] == classes:
        return None
    facts = {"outputs": shape[0], "num_classes": classes}
    title = f"the model has {shape[0]} outputs for {classes} classes"
    if initial.narrow:
        title += ", which the loss takes: the largest of them is not the answer"
        remedy = "For classes in an order, count the outputs above their threshold in a [train] metric or evaluate."
        return found("IN108", "warn", title, evidence=facts, remedy=remedy)
    return found("IN108", "error" if shape[0] < classes else "warn", title, evidence=facts)
