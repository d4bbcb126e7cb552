"""Rules over the attempts to fit a tiny subset (overfit): codes OV2xx. Each names what stopped it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tuner.core.result import Finding
from tuner.rules import Missing, found, loud, rule
from tuner.rules.init import number

# a loss this near to a level (share of the way from uniform outputs to the floor) is stuck there
NEAR = 0.03
# of the range of the loss: what the training step minimises beyond the loss function itself
PENALTY = 0.5


def _best(evidence: Mapping[str, Any]) -> Mapping[str, Any]:
    best = evidence.get("best")
    if best is None:
        raise Missing("no attempt finished")
    return best


def _failed(evidence: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the best attempt when none reached the floor and its loss is known, else None."""
    best = _best(evidence)
    return None if best["status"] == "floor" or number(best["final_loss"]) is None else best


def _facts(best: Mapping[str, Any], *more: str) -> dict[str, Any]:
    keys = ("final_loss", "loss_floor", "target", "final_accuracy", "lr", "steps", "examples", "status", *more)
    return {key: best.get(key) for key in keys}


def _squashed(best: Mapping[str, Any]) -> tuple[str, float] | None:
    """Return the kind of squashed outputs at whose floor the loss is stuck, and that floor."""
    loss, target, span = number(best["final_loss"]), number(best["target"]), number(best["span"]) or 1.0
    if loss is None or target is None:
        return None
    low, high = best["outputs_low"], best["outputs_high"]
    inside = {
        "probabilities": low >= 0 and high <= 1,
        "unit": low >= 0 and high <= 1,
        "signed": low >= -1 and high <= 1,
    }
    for kind in ("probabilities", "unit", "signed"):
        level = number(best["squashed_floors"].get(kind))
        proved = best["kind"] == kind
        near = level is not None and abs(loss - level) <= NEAR * span and (best["final_accuracy"] or 0) >= 0.9
        if level is not None and level > target and inside[kind] and (proved or near):
            return kind, level
    return None


def _ignores_input(best: Mapping[str, Any]) -> bool:
    """Say whether what was learned is the same for every input."""
    loss, level, span = number(best["final_loss"]), number(best["constant_floor"]), number(best["span"]) or 1.0
    flat = number(best["outputs_vary"]) is not None and best["outputs_vary"] < 1e-6
    return (
        flat and best["distinct_inputs"] > 1 and loss is not None and level is not None and loss > level - NEAR * span
    )


@rule(
    "OV200",
    "not-measured",
    "overfit",
    meaning="No attempt could be made.",
    detected="Every trial failed.",
    why="Without it nothing later can be concluded.",
    fix="Read the message: it names the call that failed.",
)
def nothing_measured(evidence: Mapping[str, Any]) -> Finding | None:
    """No attempt finished."""
    if evidence.get("best") is not None:
        return None
    failure = (evidence.get("failures") or [{"kind": "crash", "message": "no attempt finished"}])[0]
    first = failure["message"].splitlines()[0] if failure["message"] else failure["kind"]
    return found("OV200", "error", f"no attempt finished ({failure['kind']}): {first}", evidence=dict(failure))


@rule(
    "OV201",
    "double-softmax",
    "overfit",
    meaning="The loss stalls at the floor that squashed outputs leave, with the answers right.",
    detected=(
        "The final loss against the least loss over outputs behind a softmax, a sigmoid and a tanh; the outputs' range."
    ),
    why="No weights get below: the model squashes its outputs and the loss does so again.",
    fix="Give the loss the raw outputs of the last layer: remove the softmax, sigmoid or tanh at the end of the model.",
    confused_with="Label smoothing, whose floor is the target here; too little capacity, which leaves wrong answers.",
    source="derived: the floor of cross-entropy over softmax outputs is log(e + C - 1) - 1",
)
def stuck_at_squashed_floor(evidence: Mapping[str, Any]) -> Finding | None:
    """A loss at the floor of squashed outputs."""
    best = _failed(evidence)
    if best is None or (stuck := _squashed(best)) is None:
        return None
    kind, level = stuck
    names = {"probabilities": "softmax", "unit": "sigmoid", "signed": "tanh"}
    title = (
        f"the loss is stuck at {best['final_loss']:.3f}; outputs behind a {names[kind]} cannot get below {level:.3f}"
    )
    return found("OV201", "error", title, evidence=_facts(best, "outputs_low", "outputs_high") | {"level": level})


@rule(
    "OV202",
    "input-ignored",
    "overfit",
    meaning="The trained model gives every example the same output.",
    detected="The outputs over the subset do not vary, and the loss is that of the best constant output.",
    why="The model learns the class shares and nothing of the inputs.",
    fix="Look for dead units, a layer that is all zero, or inputs that never reach the output.",
    confused_with="A rate that is too high, which can kill all units: several rates were tried.",
    source="Karpathy, A Recipe for Training Neural Networks",
)
def stuck_at_constant_output(evidence: Mapping[str, Any]) -> Finding | None:
    """A loss at that of a constant output."""
    best = _failed(evidence)
    if best is None or not _ignores_input(best):
        return None
    title = (
        f"the outputs are the same for every input; the loss stays at {best['final_loss']:.3f}, that of a "
        "constant output"
    )
    facts = _facts(best, "constant_floor", "label_entropy", "outputs_vary")
    return found("OV202", "error", title, evidence=facts, confidence=0.75)  # a symptom: what step 1 found goes first


@rule(
    "OV203",
    "no-update",
    "overfit",
    meaning="The loss is exactly the same at every step.",
    detected="No attempt, at any rate, ever changed the training loss.",
    why="The weights do not move.",
    fix="Check that the step calls loss.backward() and optimizer.step() on this model's parameters.",
    confused_with="A loss that is stuck at a level, which moves a little.",
    source="torchtest",
)
def loss_never_moves(evidence: Mapping[str, Any]) -> Finding | None:
    """A training loss that never changes."""
    best = _best(evidence)
    if best["status"] == "floor" or any(attempt["moved"] for attempt in evidence["attempts"]):
        return None
    return found(
        "OV203", "error", f"the loss is {best['initial_loss']} at every step, at every rate", evidence=_facts(best)
    )


@rule(
    "OV204",
    "unstable",
    "overfit",
    meaning="Training diverges at every rate that was tried.",
    detected="The loss turned NaN or infinite in every attempt.",
    why="That is no matter of the rate any more: a numerical fault in the model, the loss or the data.",
    fix="Look at the layer table of check-init; for log, division or exp without a guard; and for NaN inputs.",
    confused_with="A rate that is too high, which a lower one mends.",
    source="Full Stack Deep Learning, troubleshooting",
)
def diverges_everywhere(evidence: Mapping[str, Any]) -> Finding | None:
    """Divergence at all rates."""
    best = _best(evidence)
    if any(attempt["status"] != "diverged" for attempt in evidence["attempts"]):
        return None
    lowest = min(attempt["lr"] for attempt in evidence["attempts"])
    title = f"the loss is not finite at any of {len(evidence['attempts'])} rates, down to {lowest:g}"
    return found("OV204", "error", title, evidence=_facts(best) | {"rates": evidence["rates"]})


@rule(
    "OV205",
    "capacity-too-small",
    "overfit",
    meaning="The model cannot fit a handful of examples, and the loss is at no level that a known bug leaves.",
    detected="No rate reaches the floor with every answer right, though the loss moves and outputs vary.",
    why="A model that cannot memorise a few examples will not learn many.",
    fix=(
        "Look for labels that do not belong to the inputs, a bottleneck, missing nonlinearities, frozen "
        "layers; then make the model larger."
    ),
    confused_with="Squashed outputs, ignored inputs, no updates: these have findings of their own.",
    source="CS231n notes, sanity checks: overfit a tiny subset",
)
def stuck_elsewhere(evidence: Mapping[str, Any]) -> Finding | None:
    """A tiny subset that is not fitted, for no reason known."""
    best = _failed(evidence)
    if best is None or number(best["target"]) is None or not best["moved"]:
        return None
    if _squashed(best) or _ignores_input(best) or _slow(best) or _held_back(best):
        return None
    reason = "" if best["distinct_inputs"] > 1 else " (the inputs of the subset are all the same)"
    title = (
        f"the loss is stuck at {best['final_loss']:.3f}, above the target of {best['target']:.3f}, "
        f"at the best of {len(evidence['rates'])} attempts{reason}"
    )
    facts = _facts(best, "constant_floor", "loss_zeroed", "loss_rolled", "distinct_inputs")
    finding = found("OV205", "error", title, evidence=facts, confidence=0.5)
    return finding if best["distinct_inputs"] > 1 else replace(finding, cause="constant-input", confidence=0.9)


def _slow(best: Mapping[str, Any]) -> bool:
    return best["status"] == "steps" and (best["final_accuracy"] is None or best["final_accuracy"] == 1.0)


@rule(
    "OV206",
    "train-longer",
    "overfit",
    meaning="Every answer is right and the loss still falls, but it did not reach its floor in the steps given.",
    detected="The best attempt ended with full accuracy and a loss that fell by more than a percent in its last steps.",
    why="A slow fit of a few examples hints at a small effective rate, weak gradients, or a squashed output.",
    fix="Give more steps (--steps) or higher rates (stages.overfit.rates).",
    confused_with="A loss that is stuck: that one is an error.",
    source="CS231n notes, sanity checks",
)
def still_falling(evidence: Mapping[str, Any]) -> Finding | None:
    """A fit that is slow but under way."""
    best = _failed(evidence)
    if best is None or number(best["target"]) is None or _squashed(best) or not _slow(best):
        return None
    title = f"every answer is right, but the loss is still {best['final_loss']:.3f} after {best['steps']} steps"
    return found("OV206", "warn", title, evidence=_facts(best), confidence=0.6)


@rule(
    "OV207",
    "normalisation-misuse",
    "overfit",
    meaning="Fitted in train mode, the model is wrong on the same examples in eval mode.",
    detected=(
        "The subset in eval mode: after training, after fifty more forwards in train mode, and with the running "
        "statistics set to those of the subset, which tells batch norm from anything else."
    ),
    why="What is learned is not what is evaluated: val would be wrong while training looks fine.",
    fix="Check batch norm's momentum and track_running_stats, and code that depends on self.training.",
    confused_with="Running statistics that have not caught up after few steps, which the extra forwards mend.",
    source="PyTorch documentation of BatchNorm; checklist, step 2",
)
def modes_disagree(evidence: Mapping[str, Any]) -> Finding | None:
    """Train and eval mode give different answers."""
    best = _best(evidence)
    if best["status"] != "floor":
        raise Missing("the subset was not fitted")
    loss, target, span = (number(best[key]) for key in ("recalibrated_loss", "target", "span"))
    if target is None or span is None:
        raise Missing("the loss has no known floor")
    after = best["recalibrated_accuracy"]
    fits = loss is not None and loss <= target + 0.1 * span and (after is None or after >= 0.95)
    if fits:
        return None
    exact = best["own_statistics_accuracy"]
    norm = bool(best["norm_layers"]) and exact is not None and exact > (after or 0)
    where = "the running statistics of its normalisation layers" if norm else "something that depends on the mode"
    right = "" if after is None else f" and accuracy {after:.0%}"
    title = f"the fitted subset has a loss of {loss if loss is None else round(loss, 3)}{right} in eval mode: {where}"
    facts = _facts(
        best, "train_mode_loss", "eval_loss", "recalibrated_loss", "own_statistics_loss", "smallest_momentum"
    )
    return found("OV207", "warn", title, evidence=facts, confidence=0.9)


@rule(
    "OV208",
    "loss-mismatch",
    "overfit",
    meaning="The loss is at its floor while the answers are wrong.",
    detected="The final loss is at its target and accuracy is below 100 %.",
    why="What is minimised is not what is counted: the loss and the argmax of the outputs disagree.",
    fix="Check the loss's sign and axis, and how outputs are turned into predictions.",
    confused_with="A loss that is low on average with one hard example: accuracy is then nearly full.",
    source="checklist, step 2",
)
def floor_with_wrong_answers(evidence: Mapping[str, Any]) -> Finding | None:
    """The floor without the right answers."""
    best = _failed(evidence)
    if best is None:
        return None
    loss, target, right = (number(best[key]) for key in ("final_loss", "target", "final_accuracy"))
    if target is None or right is None:
        raise Missing("the loss has no known floor, or the outputs are not one number per class")
    if loss is None or loss > target or right > 0.9:
        return None
    return found(
        "OV208", "error", f"the loss is at its floor ({loss:.3f}) with accuracy {right:.0%}", evidence=_facts(best)
    )


@rule(
    "OV210",
    "optimizer-unsuited",
    "overfit",
    meaning="Adam fits the tiny subset, the recipe's optimizer does not, at any rate that was tried.",
    detected="When no rate reaches the floor, Adam at 1e-3 takes the optimizer's place, all else the same.",
    why="Model, loss and data are sound, but training will be slow or stuck with this optimizer.",
    fix="Use Adam, add normalisation layers or another initialisation, or try other rates (stages.overfit.rates).",
    confused_with="A bug of the model: that stops Adam as well.",
    source="CS231n notes, sanity checks",
)
def only_adam_fits(evidence: Mapping[str, Any]) -> Finding | None:
    """A fit that the recipe's optimizer does not manage."""
    best = _best(evidence)
    if best["status"] != "floor" or not best.get("reference"):
        return None
    own = [attempt for attempt in evidence["attempts"] if not attempt.get("reference")]
    losses = [loss for attempt in own if (loss := number(attempt["final_loss"])) is not None]
    learned = any(loss < best["initial_loss"] - 0.1 * best["span"] for loss in losses)
    reached = f"only {min(losses):.3f}" if losses else "no finite loss"
    title = f"Adam reaches the floor in {best['steps']} steps, the recipe's optimizer {reached} in {len(own)} attempts"
    finding = found(
        "OV210", "warn" if learned else "error", title, evidence=_facts(best) | {"rates": evidence["rates"]}
    )
    limit = evidence["recipe"].get("train", {}).get("clip_norm")
    if limit is None:
        return finding
    # Adam's steps are the same whatever the gradients are multiplied by: what it mends is their size
    remedy = "Raise train.clip_norm to about the 90th percentile of the gradients' norms, or leave it out."
    seen = {**finding.evidence, "clip_norm": limit}
    title += f", with gradients clipped to {limit:g}"
    return replace(finding, cause="gradient-clipped-away", title=title, remedy=remedy, evidence=seen)


@rule(
    "OV209",
    "loss-mismatch",
    "overfit",
    meaning="The loss has no floor: it falls without end.",
    detected="The loss function is minimised over free outputs and over outputs of the model's kind.",
    why="Without a floor, fitting means driving the outputs to infinity.",
    fix="Use cross_entropy on raw outputs, or log_softmax before nll_loss; check the sign.",
    confused_with="nll_loss on log_softmax outputs, whose floor is 0.",
    source="derived",
)
def no_floor(evidence: Mapping[str, Any]) -> Finding | None:
    """A loss without a floor."""
    best = _best(evidence)
    if not best["unbounded"]:
        return None
    finding = found("OV209", "error", f"the loss falls without end over {best['kind']}", evidence=_facts(best, "kind"))
    return replace(finding, cause="sign-flipped-loss") if best["final_accuracy"] == 0 else finding


@rule(
    "OV212",
    "known-from-step-1",
    "overfit",
    meaning="The subset is not fitted, and step 1 has found what can be the reason.",
    detected="A warning of check-init whose cause keeps a model from fitting; the finding takes over that cause.",
    why="What a probe has measured is likelier than what the level of a loss suggests.",
    fix="Mend what check-init found, then run this step again.",
    confused_with="A warning that is meant and harmless: accept its code in the recipe.",
    source="checklist: one step after the other",
)
def known_from_step_1(evidence: Mapping[str, Any]) -> Finding | None:
    """A failed fit that step 1 explains."""
    if _failed(evidence) is None and any(attempt["status"] != "diverged" for attempt in evidence["attempts"]):
        return None
    known = [item for item in loud(evidence.get("earlier", [])) if item["cause"] in KEEPS_FROM_FITTING]
    if not known:
        return None
    first = known[0]  # ranked by check-init
    title = f"step 1 has a reason why the subset is not fitted ({first['code']}): {first['title']}"
    finding = found("OV212", "error", title, evidence={"code": first["code"]}, remedy=first.get("remedy", ""))
    return replace(finding, cause=first["cause"], confidence=0.8 + 0.19 * first.get("confidence", 1.0))


KEEPS_FROM_FITTING = (
    "untrained-parameters", "dead-units", "saturated-units", "symmetric-init", "bad-init-vanishing",
    "bad-init-exploding", "unnormalised-input", "constant-input", "input-ignored", "double-softmax", "loss-mismatch",
    "sign-flipped-loss", "wrong-axis", "summed-loss", "gradients-accumulate", "no-update", "gradient-clipped-away",
    "batch-dependence", "eval-mode-in-training", "normalisation-misuse", "precision-problem", "wrong-label-range",
    "missing-nonlinearity", "non-finite-input",
)  # fmt: skip


@rule(
    "OV214",
    "over-regularised",
    "overfit",
    meaning="The subset is not fitted because something holds the model back that could not be switched off.",
    detected="The training step minimises much more than the loss function gives on the same batch (a penalty of its "
    "own); or the forward is random in train mode though every dropout module is off (functional dropout).",
    why="Dropout modules and the optimizer's weight decay are off in this step: what is left is written into the code.",
    fix="Lower the penalty in the training step, or the rate of the functional dropout.",
    confused_with="Too little capacity, which fits no better without it; a penalty that is small beside the loss.",
    source="CS231n notes, sanity checks: overfit a tiny subset with regularisation off",
)
def held_back(evidence: Mapping[str, Any]) -> Finding | None:
    """A fit that regularisation in the code prevents."""
    best = _failed(evidence)
    if best is None or number(best["target"]) is None or _squashed(best) or _ignores_input(best):
        return None
    why = _held_back(best)
    if not why:
        return None
    title = f"the loss is stuck at {best['final_loss']:.3f}: {why}"
    facts = _facts(best, "last_objective", "train_mode_loss", "random_in_train_mode")
    return found("OV214", "error", title, evidence=facts, confidence=0.75)


def _held_back(best: Mapping[str, Any]) -> str:
    """Say what holds the model back; nothing where nothing is seen."""
    objective, loss, span = (number(best.get(key)) for key in ("last_objective", "train_mode_loss", "span"))
    if objective is not None and loss is not None and objective - loss > PENALTY * (span or 1.0):
        return f"the training step minimises {objective:.3f}, of which the loss is {loss:.3f}"
    if best.get("random_in_train_mode"):
        return "the forward in train mode is random, as with a dropout that is no module"
    return ""
