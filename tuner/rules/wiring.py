"""Rules over one instrumented step and the evaluation (check-init): codes IN11x."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tuner.core.result import Finding
from tuner.rules import Missing, found, rule
from tuner.rules.init import number, probe

# largest change, over the spread of the outputs, that kernels for another batch may make
SAME = 1e-3


def some(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


@rule(
    "IN110",
    "gradients-accumulate",
    "check-init",
    meaning="Gradients of earlier steps are still there at the next update.",
    detected=(
        "The same step is repeated with the rate at 0; the gradients that the updates see, or those of some of the "
        "parameters, grow as 1, 2, 3."
    ),
    why=(
        "Every update adds all the earlier ones once more: the effective rate grows with each step until "
        "training diverges."
    ),
    fix="Call optimizer.zero_grad() in each step, before loss.backward().",
    confused_with="Accumulation over a few batches on purpose: there every update sees the same sum.",
    source="Full Stack Deep Learning, troubleshooting; torchtest",
)
def gradients_accumulate(evidence: Mapping[str, Any]) -> Finding | None:
    """Gradients left over from the last step."""
    answer = probe(evidence, "fresh_gradients")
    ratios, cosines = ([number(v) or 0.0 for v in answer[key]] for key in ("ratios", "cosines"))
    grows = abs(ratios[1] - 2) < 0.2 and abs(ratios[2] - 3) < 0.3 and min(cosines) > 0.95
    if not grows and answer["growing"]:
        title = f"the gradients of some parameters add up over three updates: {some(answer['growing'])}"
        return found("IN110", "error", title, evidence=dict(answer))
    if not grows:
        return None
    listed = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    return found(
        "IN110",
        "error",
        f"three updates on the same batch see gradients of size {listed}: they add up",
        evidence=dict(answer),
    )


@rule(
    "IN111",
    "no-update",
    "check-init",
    meaning="The training step does not change the weights.",
    detected=(
        "A few steps are made; updates are counted by a hook on the optimizer, and parameters with gradient compared."
    ),
    why="Nothing is learned, whatever is tuned.",
    fix=(
        "Check that the step calls loss.backward() and optimizer.step(), and that the optimizer holds this "
        "model's parameters."
    ),
    confused_with="A warm-up that starts at rate 0: the probe uses no schedule.",
    source="torchtest; TheDeepChecker",
)
def no_update(evidence: Mapping[str, Any]) -> Finding | None:
    """Weights that stay as they are."""
    step = probe(evidence, "one_step")
    facts = {key: step[key] for key in ("updates", "moved", "not_moved", "trainable", "known_to_optimizer")}
    if not step["updates"] and step["other_optimizers"]:
        return None  # another optimizer made them, which is a finding of its own
    if not step["updates"]:
        return found("IN111", "error", "the training step never called the optimizer's step", evidence=facts)
    if not step["known_to_optimizer"]:
        return found("IN111", "error", "the optimizer holds none of the model's parameters", evidence=facts)
    if step["trainable"] and not step["moved"]:
        title = f"no parameter changed in {step['updates']} updates"
        return found("IN111", "error", title, evidence=facts, confidence=0.9)
    if step["not_moved"]:
        title = f"parameters have gradient but do not change: {some(step['not_moved'])}"
        return found("IN111", "warn", title, evidence=facts, confidence=0.9)
    return None


@rule(
    "IN112",
    "untrained-parameters",
    "check-init",
    meaning="Trainable parameters receive no gradient.",
    detected=(
        "After four updates, so that zero-initialised layers have opened, the gradient is missing or exactly 0. "
        "Where it was there at first, units have died since, and that is the cause named; where two layers or more "
        "are all 0, that is."
    ),
    why=(
        "These parameters stay at their initial values: a detached branch, an unused layer, or units that "
        "are dead from the start."
    ),
    fix=(
        "Look for detach(), .data, .item() or numpy on the way to the named parameters, or remove them if "
        "they are unused."
    ),
    confused_with=(
        "A zero-initialised head or residual branch, which blocks the gradient for the first updates only; "
        "an auxiliary head."
    ),
    source="diagnosis literature: NeuraLint, torchtest; PyTorch find_unused_parameters",
)
def no_gradient(evidence: Mapping[str, Any]) -> Finding | None:
    """Trainable parameters without gradient."""
    step = probe(evidence, "one_step")
    if not step["updates"]:
        raise Missing("no update was made")
    if not step["trainable"]:
        return found("IN112", "error", "no parameter of the model is trainable", evidence={"frozen": step["frozen"]})
    names = [*step["no_gradient"], *step["zero_gradient"]]
    if not names:
        return None
    facts = {"no_gradient": step["no_gradient"], "zero_gradient": step["zero_gradient"]}
    never = [name for name in names if name not in step["had_gradient"]]
    if never:
        finding = found("IN112", "warn", f"trainable parameters receive no gradient: {some(never)}", evidence=facts)
        zero = [layer["name"] for layer in (evidence.get("layers") or {}).get("layers", []) if _is_zero(layer)]
        if len(zero) < 2:
            return finding
        title = f"{finding.title}; the weights and biases of {some(zero)} are all 0"
        remedy = "Initialise the weights at random (model.init = 'kaiming_normal'); only a head may start at 0."
        return replace(finding, cause="symmetric-init", title=title, remedy=remedy)
    title = f"the first {step['updates']} updates have killed the gradient of {some(names)}"
    remedy = "Normalise the inputs, lower the rate, or warm it up: a step has thrown the units to where they are off."
    # the wiring is sound, and what makes the steps so large has a finding of its own
    return replace(found("IN112", "warn", title, evidence=facts, remedy=remedy, confidence=0.6), cause="dead-units")


def _is_zero(layer: Mapping[str, Any]) -> bool:
    return bool(layer.get("linear")) and layer.get("weight_norm") == 0


@rule(
    "IN113",
    "untrained-parameters",
    "check-init",
    meaning="Trainable parameters are not among those that the optimizer was given, or have a rate of 0 there.",
    detected=(
        "The model's parameters are compared with the optimizer's, by identity; and with the trainable tensors that "
        "its outputs are made with, from the autograd graph."
    ),
    why="They receive gradient and never move; or the optimizer moves the parameters of another model.",
    fix="Build the optimizer over model.parameters(); keep layers in nn.ModuleList, not in a plain list.",
    confused_with=(
        "A backbone that is left out on purpose: set requires_grad to False there, and it is only reported as frozen."
    ),
    source="torchtest; SageMaker Debugger UnchangedTensor",
)
def unknown_to_optimizer(evidence: Mapping[str, Any]) -> Finding | None:
    """Parameters that the optimizer does not hold."""
    step = probe(evidence, "one_step")
    names = step["unknown_to_optimizer"]
    facts = {"unknown": names, "foreign": step["foreign_in_optimizer"], "unregistered": step["unregistered"]}
    if step["unregistered"]:
        title = f"the model uses {len(step['unregistered'])} trainable tensors that are not among its parameters"
        return found("IN113", "warn", title, evidence=facts)
    if step["foreign_in_optimizer"]:
        title = f"the optimizer holds {step['foreign_in_optimizer']} parameters that are not the model's"
        return found("IN113", "error", title, evidence=facts)
    if names:
        return found("IN113", "warn", f"the optimizer does not hold: {some(names)}", evidence=facts)
    if resting := step.get("at_rate_0"):
        title = f"the optimizer holds with a rate of 0: {some(resting)}"
        return found("IN113", "warn", title, evidence={**facts, "at_rate_0": resting})
    return None


@rule(
    "IN114",
    "untrained-parameters",
    "check-init",
    meaning="Some parameters are frozen.",
    detected=(
        "requires_grad is False. A warning where some of their values are others with another seed: they were drawn at "
        "random, and nobody can mean to keep them."
    ),
    why="They keep their initial values; on a model that is not pretrained, that is lost capacity.",
    fix="Nothing, if it is meant: accept the code in the recipe. Otherwise set requires_grad to True.",
    confused_with="Fine-tuning of a head over a frozen backbone, which is sound.",
    source="checklist, fine-tuning",
)
def frozen_parameters(evidence: Mapping[str, Any]) -> Finding | None:
    """Frozen parameters."""
    step = probe(evidence, "one_step")
    if not step["frozen"] or not step["trainable"]:
        return None
    share = 1 - step["trainable"] / step["parameters"]
    title = f"{len(step['frozen'])} parameters ({share:.0%} of the weights) are frozen: {some(step['frozen'])}"
    facts = {"frozen": step["frozen"], "at_random": step["frozen_at_random"], "share": share}
    if not step["frozen_at_random"]:
        return found("IN114", "note", title, evidence=facts, confidence=0.5)
    return found("IN114", "warn", f"{title}, at random values", evidence=facts, confidence=0.8)


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
def decay_not_applied(evidence: Mapping[str, Any]) -> Finding | None:
    """Weight decay that is not there, or too much of it."""
    answer = probe(evidence, "weight_decay")
    asked, groups = answer["asked"], answer["in_groups"]
    if asked and not any(groups):
        title = f"the recipe asks for weight decay {asked:g}, the optimizer's groups have none"
        return found("IN115", "warn", title, evidence=dict(answer))
    if answer["not_shrunk"]:
        title = f"a step with zero gradients does not shrink: {some(answer['not_shrunk'])}"
        return found("IN115", "warn", title, evidence=dict(answer))
    moved = [*answer["moved_with_decay_off"], *answer["moved_though_exempt"]]
    if moved:
        title = f"parameters move on zero gradients with weight decay off: {some(moved)}"
        return found("IN115", "warn", title, evidence=dict(answer), confidence=0.8)
    return None


@rule(
    "IN116",
    "train-mode-in-eval",
    "check-init",
    meaning="Evaluating the same examples twice gives different outputs, or changes the model.",
    detected=(
        "One batch is evaluated twice in eval mode with different random states; running statistics are compared; val "
        "examples are read twice: where all are then one number times what they were, the scale is the cause named."
    ),
    why="Val is noisy, depends on the batch, or leaks into the normalisation statistics.",
    fix="Call model.eval() before evaluating; give functional dropout self.training; no random transform on val.",
    confused_with="Monte-Carlo dropout on purpose; differences of 1e-6 between kernels.",
    source="Karpathy, A Recipe for Training Neural Networks",
)
def evaluation_not_repeatable(evidence: Mapping[str, Any]) -> Finding | None:
    """Evaluation that is random or changes the model."""
    answer = probe(evidence, "repeatable_evaluation")
    if answer["statistics_moved"]:
        title = f"evaluation changes running statistics: {some(answer['statistics_moved'])}"
        return found("IN116", "error", title, evidence=dict(answer))
    if (number(answer["val_reads_differ"]) or 0.0) > 0:
        title = f"{answer['val_reads_differ']:.0%} of the val examples are other inputs when they are read again"
        if (times := number(answer.get("val_reads_times"))) is None:
            return found("IN116", "warn", title, evidence=dict(answer))
        title += f", {times:.3g} times what they were: reading an example changes what is stored"
        remedy = "Copy in __getitem__ before computing, or write x = x / 255 in place of x /= 255."
        finding = found("IN116", "error", title, evidence=dict(answer), remedy=remedy)
        return replace(finding, cause="unnormalised-input")
    differ = number(answer["outputs_differ"])
    if differ is not None and differ > SAME and not _remembers(evidence):
        title = f"two evaluations of one batch differ by {differ:.2g} of the outputs' spread"
        return found("IN116", "warn", title, evidence=dict(answer))
    if "train" in answer["modes_in_forward"]:
        title = "the recipe's evaluate runs dropout or normalisation in train mode"
        return found("IN116", "warn", title, evidence=dict(answer))
    if answer["left_in_train_mode"]:
        return found("IN116", "warn", "the recipe's evaluate leaves the model in train mode", evidence=dict(answer))
    return None


def _remembers(evidence: Mapping[str, Any]) -> bool:
    """Tell whether outputs depend on earlier calls, which IN160 says."""
    return (number((evidence.get("state_between_calls") or {}).get("differ")) or 0.0) > SAME


@rule(
    "IN117",
    "batch-dependence",
    "check-init",
    meaning="In eval mode, an example's output depends on which other examples are in the batch.",
    detected="The examples before and after a part of a batch are swapped for others; its outputs must not change.",
    why="Information flows between examples: a view or reshape that mixes the batch dimension with another, or a "
    "recurrent or attention layer that takes the batch for time.",
    fix="Use permute or transpose instead of view, batch_first=True for nn.LSTM, nn.GRU and nn.MultiheadAttention on "
    "(batch, time, features), and look for reductions over dimension 0.",
    confused_with="Batch norm in train mode; attention or contrast across the batch on purpose.",
    source="Karpathy, A Recipe for Training Neural Networks; PyTorch Lightning BatchGradientVerification",
)
def batch_dependence(evidence: Mapping[str, Any]) -> Finding | None:
    """Outputs that depend on the neighbours."""
    answer = probe(evidence, "neighbours")
    if answer["outputs"] != answer["inputs"]:
        title = f"the model gives {answer['outputs']} outputs for {answer['inputs']} inputs"
        return found("IN117", "error", title, evidence=dict(answer))
    repeated = number((evidence.get("repeatable_evaluation") or {}).get("outputs_differ"))
    differ = number(answer["differ"])
    if differ is None or differ <= SAME:
        return None
    if _remembers(evidence):
        raise Missing("the model keeps something between calls, so the effect of the neighbours cannot be told from it")
    if repeated is not None and repeated > SAME:
        raise Missing("evaluation is random, so the effect of the neighbours cannot be told from it")
    title = f"swapping the other examples of a batch changes an output by {differ:.2g} of the outputs' spread"
    return found("IN117", "error", title, evidence=dict(answer))


@rule(
    "IN118",
    "eval-mode-in-training",
    "check-init",
    meaning="Dropout or normalisation layers, or the whole model, are in eval mode while training.",
    detected=(
        "The mode of the model at each forward of a training step, and of its dropout and normalisation "
        "layers after it."
    ),
    why="Batch norm does not learn its statistics and dropout does nothing: train and val do not fit together.",
    fix="Call model.train() before training, and again after every evaluation.",
    confused_with="Batch norm frozen on purpose while fine-tuning.",
    source="PyTorch Lightning ModelSummary (modules in eval mode)",
)
def eval_mode_in_training(evidence: Mapping[str, Any]) -> Finding | None:
    """Eval mode in a training step."""
    step = probe(evidence, "one_step")
    facts = {key: step[key] for key in ("forward_in_eval_mode", "left_in_eval_mode", "eval_modules")}
    if step["forward_in_eval_mode"]:
        return found("IN118", "warn", "the training step runs the model in eval mode", evidence=facts)
    if step["left_in_eval_mode"]:
        return found("IN118", "warn", "the training step leaves the model in eval mode", evidence=facts)
    if step["eval_modules"]:
        return found("IN118", "warn", f"in eval mode while training: {some(step['eval_modules'])}", evidence=facts)
    return None
