"""Rules over one instrumented step and the evaluation (check-init): codes IN11x."""

from __future__ import annotations

from tuner.checks.cards import Missing, found, rule, some
from tuner.checks.layers.evidence import Layers
from tuner.checks.one_step.evidence import OneStep
from tuner.core.result import Finding


@rule(
    "IN111",
    "no-update",
    "check-init",
    meaning="The training step does not change the weights.",
    detected="A few steps are made; updates are counted by a hook on the optimizer, and parameters with gradient "
    "compared.",
    why="Nothing is learned, whatever is tuned.",
    fix="Check that the step calls loss.backward() and optimizer.step(), and that the optimizer holds this model's "
    "parameters.",
    confused_with="A warm-up that starts at rate 0: the probe uses no schedule.",
    source="torchtest; TheDeepChecker",
    explained_by=("IN113", "IN125", "IN184"),
)
def no_update(step: OneStep) -> Finding | None:
    facts = step.only("updates", "moved", "not_moved", "trainable", "known_to_optimizer")
    if not step.updates and step.other_optimizers:
        return None  # another optimizer made them, which is a finding of its own
    if not step.updates:
        return found("IN111", "error", "the training step never called the optimizer's step", evidence=facts)
    if not step.known_to_optimizer:
        return found("IN111", "error", "the optimizer holds none of the model's parameters", evidence=facts)
    if step.trainable and not step.moved:
        title = f"no parameter changed in {step.updates} updates"
        return found("IN111", "error", title, evidence=facts)
    if step.not_moved:
        title = f"parameters have gradient but do not change: {some(step.not_moved)}"
        return found("IN111", "warn", title, evidence=facts)
    return None


@rule(
    "IN112",
    "untrained-parameters",
    "check-init",
    meaning="Trainable parameters receive no gradient.",
    detected="After four updates, so that zero-initialised layers have opened, the gradient is missing or exactly 0, "
    "as at every update.",
    why="These parameters stay at their initial values: a detached branch, an unused layer, or units that are dead "
    "from the start.",
    fix="Look for detach(), .data, .item() or numpy on the way to the named parameters, or remove them if they are "
    "unused.",
    confused_with="A zero-initialised head or residual branch, which blocks the gradient for the first updates only; "
    "an auxiliary head.",
    source="diagnosis literature: NeuraLint, torchtest; PyTorch find_unused_parameters",
)
def no_gradient(step: OneStep, layers: Layers | None) -> Finding | None:
    names = _without_gradient(step)
    if not step.trainable:
        return found("IN112", "error", "no parameter of the model is trainable", evidence=step.only("frozen"))
    facts = step.only("no_gradient", "zero_gradient")
    never = [name for name in names if name not in step.had_gradient]
    if not never or len(_zero_layers(layers)) >= 2:
        return None  # both have findings of their own
    return found("IN112", "warn", f"trainable parameters receive no gradient: {some(never)}", evidence=facts)


@rule(
    "IN152",
    "symmetric-init",
    "check-init",
    meaning="Trainable parameters receive no gradient, because whole layers start at 0.",
    detected="As IN112, and the weights and biases of two linear layers or more are all 0.",
    why="Through a layer of zeros nothing passes, forwards or backwards: two of them keep each other from opening.",
    fix="Initialise the weights at random (model.init = 'kaiming_normal'); only a head may start at 0.",
    confused_with="A single zero-initialised head or residual branch, which opens in the first updates.",
    source="CS231n notes, weight initialisation: all zero is a pitfall",
)
def layers_of_zeros(step: OneStep, layers: Layers | None) -> Finding | None:
    names, zero = _without_gradient(step), _zero_layers(layers)
    never = [name for name in names if name not in step.had_gradient]
    if not never or len(zero) < 2:
        return None
    title = f"trainable parameters receive no gradient: {some(never)}; the weights and biases of {some(zero)} are all 0"
    return found("IN152", "warn", title, evidence=step.only("no_gradient", "zero_gradient"))


@rule(
    "IN153",
    "dead-units",
    "check-init",
    meaning="The first updates have switched units off for good.",
    detected="The gradient of parameters that had one at first is missing or exactly 0 after four updates.",
    why="The wiring is sound; the steps are so large that rectifiers are off for every example afterwards.",
    fix="Normalise the inputs, lower the lr, or warm it up: a step has thrown the units to where they are off.",
    confused_with="Parameters that never had gradient, which are not connected.",
    source="CS231n notes, ReLU: units die where the learning rate is too high",
    explained_by=("unnormalised-input", "bad-init-exploding", "summed-loss"),
)
def updates_kill(step: OneStep) -> Finding | None:
    names = _without_gradient(step)
    if not names or any(name not in step.had_gradient for name in names):
        return None
    title = f"the first {step.updates} updates have killed the gradient of {some(names)}"
    return found("IN153", "warn", title, evidence=step.only("no_gradient", "zero_gradient"))


def _without_gradient(step: OneStep) -> list[str]:
    """Return the trainable parameters without gradient at the last update."""
    if not step.updates:
        raise Missing("no update was made")
    return [*step.no_gradient, *step.zero_gradient] if step.trainable else []


def _zero_layers(layers: Layers | None) -> list[str]:
    measured = layers.layers if layers is not None else ()
    return [layer.name for layer in measured if layer.linear and layer.weight_norm == 0]


@rule(
    "IN113",
    "untrained-parameters",
    "check-init",
    meaning="Trainable parameters are not among those that the optimizer was given, or have a rate of 0 there.",
    detected="The model's parameters are compared with the optimizer's, by identity; and with the trainable tensors "
    "that its outputs are made with, from the autograd graph.",
    why="They receive gradient and never move; or the optimizer moves the parameters of another model.",
    fix="Build the optimizer over model.parameters(); keep layers in nn.ModuleList, not in a plain list.",
    confused_with="A backbone that is left out on purpose: set requires_grad to False there, and it is only reported "
    "as frozen.",
    source="torchtest; SageMaker Debugger UnchangedTensor",
)
def unknown_to_optimizer(step: OneStep) -> Finding | None:
    names = step.unknown_to_optimizer
    facts = {"unknown": names, "foreign": step.foreign_in_optimizer, "unregistered": step.unregistered}
    if step.unregistered:
        title = f"the model uses {len(step.unregistered)} trainable tensors that are not among its parameters"
        return found("IN113", "warn", title, evidence=facts)
    if step.foreign_in_optimizer:
        title = f"the optimizer holds {step.foreign_in_optimizer} parameters that are not the model's"
        return found("IN113", "error", title, evidence=facts)
    if names:
        return found("IN113", "warn", f"the optimizer does not hold: {some(names)}", evidence=facts)
    if resting := step.at_rate_0:
        title = f"the optimizer holds with a rate of 0: {some(resting)}"
        return found("IN113", "warn", title, evidence={**facts, "at_rate_0": resting})
    return None


@rule(
    "IN114",
    "untrained-parameters",
    "check-init",
    meaning="Some parameters are frozen.",
    detected="requires_grad is False. A warning where some of their values are others with another seed: they were "
    "drawn at random, and nobody can mean to keep them.",
    why="They keep their initial values; on a model that is not pretrained, that is lost capacity.",
    fix="Nothing, if it is meant: accept the code in the recipe, or say it there ([finetune] way). Otherwise set "
    "requires_grad to True; what [finetune] freezes needs its weights (finetune.weights).",
    confused_with="Fine-tuning of a head over a frozen backbone, which is sound, and of which nothing is said where "
    "the recipe asks for it.",
    source="checklist, fine-tuning",
    explained_by=("IN111", "IN112", "IN113"),
)
def frozen_parameters(step: OneStep) -> Finding | None:
    if not step.frozen or not step.trainable:
        return None
    share = 1 - step.trainable / step.parameters
    title = f"{len(step.frozen)} parameters ({share:.0%} of the weights) are frozen: {some(step.frozen)}"
    facts = {"frozen": step.frozen, "at_random": step.frozen_at_random, "share": share}
    if not step.frozen_at_random:
        meant = set(step.frozen) <= set(step.frozen_by_the_recipe)
        return None if meant else found("IN114", "note", title, evidence=facts)
    if drawn := sorted(set(step.frozen_at_random) & set(step.frozen_by_the_recipe)):
        title = f"[finetune] freezes {len(drawn)} weights that are in no file of weights: {some(drawn)}"
    return found("IN114", "warn", f"{title}, at random values", evidence=facts)


@rule(
    "IN118",
    "eval-mode-in-training",
    "check-init",
    meaning="Dropout or normalisation layers, or the whole model, are in eval mode while training.",
    detected="The mode of the model at each forward of a training step, and of its dropout and normalisation layers "
    "after it.",
    why="Batch norm does not learn its statistics and dropout does nothing: train and val do not fit together.",
    fix="Call model.train() before training, and again after every evaluation.",
    confused_with="Batch norm frozen on purpose while fine-tuning.",
    source="PyTorch Lightning ModelSummary (modules in eval mode)",
)
def eval_mode_in_training(step: OneStep) -> Finding | None:
    facts = step.only("forward_in_eval_mode", "left_in_eval_mode", "eval_modules")
    if step.forward_in_eval_mode:
        return found("IN118", "warn", "the training step runs the model in eval mode", evidence=facts)
    if step.left_in_eval_mode:
        return found("IN118", "warn", "the training step leaves the model in eval mode", evidence=facts)
    if step.eval_modules:
        return found("IN118", "warn", f"in eval mode while training: {some(step.eval_modules)}", evidence=facts)
    return None
