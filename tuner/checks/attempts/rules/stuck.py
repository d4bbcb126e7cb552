"""Rules over a fit of a tiny subset that is stuck (overfit): the level of the loss says at what. Codes OV2xx."""

from __future__ import annotations

from tuner.checks.attempts.evidence import Attempts
from tuner.checks.attempts.rules.fits import facts_of, failed_attempt
from tuner.checks.cards import found, number, rule
from tuner.checks.limits import Limit
from tuner.checks.overfit.evidence import Overfit
from tuner.core.result import Finding

NEAR = Limit(
    "near", 0.03, "of the way from uniform outputs to the floor", "zoo: stuck runs lie within it, fitted ones beyond"
)
PENALTY = Limit(
    "penalty",
    0.5,
    "of the range of the loss",
    "zoo: penalties that prevent a fit are larger, weight decay in the loss smaller",
)
AT = " at the start"
CUT_OFF = Limit("cut off", 0.5, "of the wrong answers", "derived: outputs that nothing cuts are never exactly 0")


@rule(
    "OV201",
    "double-softmax",
    "overfit",
    meaning="The loss stalls at the floor that squashed outputs leave, with the answers right.",
    detected="The final loss against the least loss over outputs behind a softmax, a sigmoid and a tanh; the "
    "outputs' range.",
    why="No weights get below: the model squashes its outputs and the loss does so again.",
    fix="Give the loss the raw outputs of the last layer: remove the softmax, sigmoid or tanh at the end of the model.",
    confused_with="Label smoothing, whose floor is the target here; too little capacity, which leaves wrong answers.",
    source="derived: the floor of cross-entropy over softmax outputs is log(e + C - 1) - 1",
)
def stuck_at_squashed_floor(fit: Attempts) -> Finding | None:
    best = failed_attempt(fit)
    if best is None or (stuck := _squashed(best)) is None:
        return None
    kind, level = stuck
    names = {"probabilities": "softmax", "unit": "sigmoid", "signed": "tanh"}
    title = f"the loss is stuck at {best.final_loss:.3f}; outputs behind a {names[kind]} cannot get below {level:.3f}"
    return found("OV201", "error", title, evidence=facts_of(best, "outputs_low", "outputs_high") | {"level": level})


def _squashed(best: Overfit) -> tuple[str, float] | None:
    """Return the kind of squashed outputs at whose floor the loss is stuck, and that floor."""
    loss, target, span = number(best.final_loss), number(best.target), number(best.span) or 1.0
    if loss is None or target is None:
        return None
    low, high = best.outputs_low, best.outputs_high
    if low is None or high is None:
        return None
    inside = {
        "probabilities": low >= 0 and high <= 1,
        "unit": low >= 0 and high <= 1,
        "signed": low >= -1 and high <= 1,
    }
    for kind in ("probabilities", "unit", "signed"):
        level = number(best.squashed_floors.get(kind))
        proved = best.kind == kind
        near = level is not None and abs(loss - level) <= NEAR * span and (best.final_accuracy or 0) >= 0.9
        if level is not None and level > target and inside[kind] and (proved or near):
            return kind, level
    return None


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
    explained_by=("OV212",),
)
def stuck_at_constant_output(fit: Attempts) -> Finding | None:
    best = failed_attempt(fit)
    if best is None or not _ignores_input(best):
        return None
    title = (
        f"the outputs are the same for every input; the loss stays at {best.final_loss:.3f}, that of a constant output"
    )
    facts = facts_of(best, "constant_floor", "label_entropy", "outputs_vary")
    return found("OV202", "error", title, evidence=facts)  # a symptom: what step 1 found goes first


def _ignores_input(best: Overfit) -> bool:
    """Return whether what was learned is the same for every input."""
    loss, level, span = number(best.final_loss), number(best.constant_floor), number(best.span) or 1.0
    varies = number(best.outputs_vary)
    flat = varies is not None and varies < 1e-6
    return flat and best.distinct_inputs > 1 and loss is not None and level is not None and loss > level - NEAR * span


@rule(
    "OV215",
    "dead-units",
    "overfit",
    meaning="The outputs pass a rectifier: a class whose score is negative is cut to 0, and gets no gradient.",
    detected="No output is below 0, and for half of the wrong answers or more the output of the right class is "
    "exactly 0: numbers that no rectifier has cut are never all of one sign and exactly 0.",
    why="What is cut cannot be raised again: an example whose class has been cut stays wrong, at any rate.",
    fix="Give the loss the raw outputs of the last layer: remove the ReLU at the end of the model.",
    confused_with="Too little capacity, whose wrong outputs are any numbers; outputs that are 0 for every example.",
    source="derived; CS231n notes, activation functions: a ReLU that is off passes no gradient",
)
def scores_cut_off(fit: Attempts) -> Finding | None:
    best = failed_attempt(fit)
    if best is None or not _cut_off(best):
        return None
    title = (
        f"no output is below 0, and {best.cut_off:.0%} of the wrong answers have exactly 0 for the right class: a "
        "rectifier cuts the outputs"
    )
    facts = facts_of(best, "cut_off", "outputs_low", "outputs_high")
    return found("OV215", "error", title, evidence=facts)


def _cut_off(best: Overfit) -> bool:
    """Return whether a rectifier behind the last layer is what keeps wrong answers wrong."""
    if best.kind != "logits" or best.outputs_low != 0 or _ignores_input(best):
        return False  # a sigmoid can give exactly 0 as well
    return (number(best.cut_off) or 0.0) >= CUT_OFF


@rule(
    "OV205",
    "capacity-too-small",
    "overfit",
    meaning="The model cannot fit a handful of examples, and the loss is at no level that a known bug leaves.",
    detected="No rate reaches the floor with every answer right, though the loss moves and outputs vary.",
    why="A model that cannot memorise a few examples will not learn many.",
    fix="Look for labels that do not belong to the inputs, a bottleneck, missing nonlinearities, frozen layers; then "
    "make the model larger.",
    confused_with="Squashed outputs, ignored inputs, no updates: these have findings of their own.",
    source="CS231n notes, sanity checks: overfit a tiny subset",
    explained_by=("OV212",),
)
def stuck_elsewhere(fit: Attempts) -> Finding | None:
    best = failed_attempt(fit)
    if best is None or number(best.target) is None or not best.moved:
        return None
    if any(known(best) for known in (_squashed, _ignores_input, _cut_off, _slow, _held_back)):
        return None
    if best.distinct_inputs <= 1:
        return None
    facts = facts_of(best, "constant_floor", "loss_zeroed", "loss_rolled", "distinct_inputs")
    return found("OV205", "error", _stuck(fit, best), evidence=facts)


@rule(
    "OV218",
    "constant-input",
    "overfit",
    meaning="The tiny subset is not fitted, and its inputs are all the same.",
    detected="As OV205, with one different input among the examples of the subset.",
    why="Equal inputs get equal outputs: no model can tell their labels apart.",
    fix="Look at what is loaded: a wrong index, a failed decode, one picture in all files.",
    confused_with="Too little capacity: there the inputs differ.",
    source="Karpathy, A Recipe for Training Neural Networks",
    explained_by=("OV212",),
)
def stuck_on_equal_inputs(fit: Attempts) -> Finding | None:
    best = failed_attempt(fit)
    if best is None or best.distinct_inputs > 1 or not best.moved or number(best.target) is None:
        return None
    title = f"{_stuck(fit, best)} (the inputs of the subset are all the same)"
    return found("OV218", "error", title, evidence=facts_of(best, "distinct_inputs", "constant_floor"))


def _stuck(fit: Attempts, best: Overfit) -> str:
    loss, target = best.final_loss or 0.0, best.target or 0.0
    where = f"the loss is stuck at {loss:.3f}, above the target of {target:.3f}"
    return f"{where}, at the best of {len(fit.attempts)} attempts"


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
    explained_by=("OV212",),
)
def still_falling(fit: Attempts) -> Finding | None:
    best = failed_attempt(fit)
    if best is None or number(best.target) is None or _squashed(best) or not _slow(best):
        return None
    title = f"every answer is right, but the loss is still {best.final_loss:.3f} after {best.steps} steps"
    return found("OV206", "warn", title, evidence=facts_of(best))


def _slow(best: Overfit) -> bool:
    return best.status == "steps" and (best.final_accuracy is None or best.final_accuracy == 1.0)


@rule(
    "OV214",
    "over-regularised",
    "overfit",
    meaning="The subset is not fitted because something holds the model back that could not be switched off.",
    detected="The training step minimises much more than the loss function gives on the same batch, at the end or at "
    "the start (a penalty of its own, which shrinks with the weights); or the forward is random in train mode though "
    "every dropout module is off (functional dropout).",
    why="Dropout modules and the optimizer's weight decay are off in this step: what is left is written into the code.",
    fix="Lower the penalty in the training step, or the rate of the functional dropout.",
    confused_with="Too little capacity, which fits no better without it; a penalty that is small beside the loss.",
    source="CS231n notes, sanity checks: overfit a tiny subset with regularisation off",
    explained_by=("OV212",),
)
def held_back(fit: Attempts) -> Finding | None:
    best = failed_attempt(fit)
    if best is None or number(best.target) is None or _squashed(best) or _ignores_input(best) or _cut_off(best):
        return None
    why = _held_back(best)
    if not why:
        return None
    title = f"the loss is stuck at {best.final_loss:.3f}: {why}"
    facts = facts_of(best, "initial_loss", "first_loss", "last_objective", "train_mode_loss", "random_in_train_mode")
    return found("OV214", "error", title, evidence=facts)


def _held_back(best: Overfit) -> str:
    """Say what holds the model back; nothing where nothing is seen."""
    span = number(best.span) or 1.0
    for of_objective, of_loss, when in (("last_objective", "train_mode_loss", ""), ("initial_loss", "first_loss", AT)):
        objective, loss = number(getattr(best, of_objective)), number(getattr(best, of_loss))
        if objective is not None and loss is not None and objective - loss > PENALTY * span:
            return f"the training step minimises {objective:.3f}{when}, of which the loss is {loss:.3f}"
    if best.random_in_train_mode:
        return "the forward in train mode is random, as with a dropout that is no module"
    return ""
