"""Rules over what one training step does with gradients, state and batches (check-init): codes IN122 to 129, IN15x."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.core.result import Finding, Severity
from tuner.rules import Missing, found, rule
from tuner.rules.init import number, probe

CUT = 0.1  # of the gradient's norm, which is largest before training; usual clipping leaves more
CUT_AWAY = 0.01
UPHILL = -0.5
STRANGE_MOMENTUM = 0.9
TINY_BATCH = 2
HALF_USED = 0.75
EXACT = 0.02
LONGER = 3.0  # times the longest run, from which on momentum's memory does not fade within it


@rule(
    "IN122",
    "optimizer-state-lost",
    "check-init",
    meaning="The training step does not go on with the recipe's optimizer: it builds another, or clears its state.",
    detected=(
        "Hooks on every optimizer say which one makes the updates of a few steps, and whether what it remembered after "
        "one update (momentum, second moments) is still there at the next."
    ),
    why="Momentum and Adam's averages start anew each time, and the schedule moves a rate that nobody uses.",
    fix="Use the optimizer that the step is given; never build one, and never clear its state, within a step.",
    confused_with="A second optimizer of one's own that is kept between steps; plain SGD, which remembers nothing.",
    source="Full Stack Deep Learning, troubleshooting; derived",
)
def state_lost(evidence: Mapping[str, Any]) -> Finding | None:
    """An optimizer that forgets."""
    step = probe(evidence, "one_step")
    facts = {key: step[key] for key in ("updates", "calls", "other_optimizers", "state_lost", "moved")}
    if step["other_optimizers"] > 1:
        title = f"{step['other_optimizers']} optimizers that are not the recipe's made {step['calls']} updates"
        return found("IN122", "error", title, evidence=facts)
    if step["other_optimizers"] and not step["updates"]:
        title = "the training step updates with an optimizer of its own: the recipe's, and its rate, are not used"
        return found("IN122", "warn", title, evidence=facts)
    if step["state_lost"]:
        return found("IN122", "error", "what the optimizer remembered is gone at the next update", evidence=facts)
    return None


@rule(
    "IN123",
    "gradient-clipped-away",
    "check-init",
    meaning="Hardly anything of the gradient reaches the update.",
    detected=(
        "The gradient that the optimizer sees, over that of the loss on the same batch computed apart: less than a "
        "tenth of its norm. For optimizers that divide by the gradient's size (Adam and the like) it is only a note."
    ),
    why="With SGD the step shrinks by as much: the useful rate moves by decades, and all steps have one length.",
    fix="Clip at about the 90th percentile of the norms that training has (1 to 10 is usual), after unscaling.",
    confused_with="Clipping at 1 early in training, which cuts a part; a loss divided on purpose, for accumulation.",
    source="Google tuning playbook: more than half of the steps clipped is extremely aggressive",
)
def gradient_cut(evidence: Mapping[str, Any]) -> Finding | None:
    """Gradients that are clipped or scaled to nearly nothing."""
    seen = probe(evidence, "gradient_seen")
    ratios = [number(value) for value in seen["ratios"]]
    if None in ratios:
        raise Missing("the gradient is not finite")
    largest = max(ratio for ratio in ratios if ratio is not None)
    if largest >= CUT or largest == 0:
        return None
    severity: Severity = "note" if seen["adaptive"] and largest > 1e-6 else "warn" if largest < CUT_AWAY else "note"
    title = (
        f"the update sees {largest:.1%} of the gradient's norm"
        if largest > 1e-4
        else (f"the update sees {largest:.1g} of the gradient's norm")
    )
    return found("IN123", severity, title, evidence=dict(seen), confidence=0.9)


@rule(
    "IN150",
    "summed-loss",
    "check-init",
    meaning="The training step adds up the gradients of several batches and does not divide by their number.",
    detected=(
        "The same batch is given for all calls that make one update: the gradient of the update is as many times that "
        "of the loss as there were calls, within 2 %. For optimizers that divide by the gradient's size a note."
    ),
    why="The effective rate is the recipe's times the number of batches, and moves when that number is changed.",
    fix="Divide the loss by the number of batches that make one update before backward.",
    confused_with="Batches that are averaged; gradients that are never cleared, which grow from update to update.",
    source="PyTorch documentation, gradient accumulation: loss = loss / iters_to_accumulate",
)
def adds_up_batches(evidence: Mapping[str, Any]) -> Finding | None:
    """Accumulation without division."""
    seen = probe(evidence, "gradient_seen")
    ratios, cosines = ([number(value) or 0.0 for value in seen[key]] for key in ("ratios", "cosines"))
    calls = seen["calls"]
    if calls < 2 or any(abs(ratio / calls - 1) > EXACT for ratio in ratios) or min(cosines) < 1 - EXACT:
        return None
    severity: Severity = "note" if seen["adaptive"] else "warn"
    title = f"an update sees the sum of {calls} batches' gradients, not their mean: {calls} times the recipe's rate"
    return found("IN150", severity, title, evidence=dict(seen), confidence=0.95)


@rule(
    "IN124",
    "sign-flipped-loss",
    "check-init",
    meaning="The training step goes uphill: it makes the loss larger.",
    detected=(
        "The gradient that the optimizer sees points against that of the loss on the same batch (cosine below -0.5), "
        "or the optimizer maximises."
    ),
    why="Training raises the loss, at any rate.",
    fix="Give backward the loss itself, not its negative; leave maximize off.",
    confused_with="A rate that is too high: there the gradient points the right way.",
    source="CS231n notes; Full Stack Deep Learning, troubleshooting (loss goes up)",
)
def goes_uphill(evidence: Mapping[str, Any]) -> Finding | None:
    """A step against the gradient."""
    seen = probe(evidence, "gradient_seen")
    cosines = [number(value) or 0.0 for value in seen["cosines"]]
    against = max(cosines) < UPHILL
    if against == seen["maximises"]:  # twice negated is right again
        return None
    title = "the optimizer maximises" if seen["maximises"] else "the update sees the gradient with its sign turned"
    return found("IN124", "error", f"{title}: the loss goes up", evidence=dict(seen))


@rule(
    "IN125",
    "repeated-data",
    "check-init",
    meaning="The training step does not train on the batch that it is given.",
    detected=(
        "The step is given batches that share no example; hashes say which examples reach the model. It sees those of "
        "an earlier batch, or less than three quarters of each batch. And either half of a batch is swapped for other "
        "examples: the gradient that the update sees must change."
    ),
    why="The model sees a few examples again and again, or only a part of the data.",
    fix="Use the whole of `batch` in every call; look for a slice, a batch that was kept, an index on the loss, or a "
    "zero_grad() within a loop over parts of the batch.",
    confused_with="A step that mixes or augments inputs, whose examples are not recognised; a memory of old examples.",
    source="derived",
)
def other_examples(evidence: Mapping[str, Any]) -> Finding | None:
    """A step that trains on something else."""
    idle = (evidence.get("batch_use") or {}).get("idle")
    if idle:
        which = "first" if idle[0] == 0 else "second"
        title = f"an update is the same whatever the {which} half of its batch holds: it is made from the rest alone"
        return found("IN125", "error", title, evidence=dict(evidence["batch_use"]), confidence=0.98)
    diet = probe(evidence, "step_diet")
    if not diet["own_step"] or diet["unknown"] > 0.05:
        return None
    if diet["stale"] > 0.5 and diet["used"] < 0.5:
        title = f"{diet['stale']:.0%} of the examples that the step trains on are those of earlier batches"
        return found("IN125", "error", title, evidence=dict(diet))
    if diet["used"] < HALF_USED:
        return found("IN125", "warn", f"the step uses {diet['used']:.0%} of each batch", evidence=dict(diet))
    return None


@rule(
    "IN126",
    "misaligned-labels",
    "check-init",
    meaning="The training step gives the loss labels that do not belong to the model's inputs.",
    detected="Hashes of the inputs of the step's forward, and the labels that the loss is given after it.",
    why="The model learns the wrong labels; at best it memorises nothing.",
    fix="Permute, slice or gather inputs and targets by the same indices.",
    confused_with="Mixup, which asks for both the right labels and those of the other example.",
    source="derived",
)
def step_mispairs(evidence: Mapping[str, Any]) -> Finding | None:
    """A step that pairs inputs with other labels."""
    diet = probe(evidence, "step_diet")
    wrong = number(diet.get("mispaired"))
    if wrong is None or wrong < 0.2:
        return None
    title = f"{wrong:.0%} of the labels that the step gives the loss are not those of its inputs"
    return found("IN126", "error", title, evidence=dict(diet))


@rule(
    "IN127",
    "normalisation-misuse",
    "check-init",
    meaning="Batch norm cannot learn the statistics that evaluation uses.",
    detected=(
        "Running statistics of layers in train mode that a few steps leave as they are; a momentum of 0.9 or more, "
        "which in PyTorch is the weight of the newest batch; batches of one or two examples."
    ),
    why="Train is judged by the batch's statistics, val by the running ones: val is noisy or plainly wrong.",
    fix="momentum = 0.1 (Keras's 0.99 is 0.01 here); batches of 8 or more, or group norm.",
    confused_with="Batch norm in eval mode, which is another finding; statistics frozen on purpose.",
    source="PyTorch BatchNorm documentation (momentum); Wu and He 2018, Group Normalization",
)
def batch_norm_misused(evidence: Mapping[str, Any]) -> Finding | None:
    """Batch norm whose statistics do not fit."""
    norm = probe(evidence, "one_step")["normalisation"]
    if not norm["layers"]:
        return None
    if norm["still"]:
        title = f"{len(norm['still'])} batch norms do not learn their statistics: {', '.join(norm['still'][:4])}"
        return found("IN127", "warn", title, evidence=dict(norm), confidence=0.95)
    if (norm["largest_momentum"] or 0.0) >= STRANGE_MOMENTUM:
        title = f"a batch norm has momentum {norm['largest_momentum']:g}: its statistics are those of the last batch"
        return found("IN127", "warn", title, evidence=dict(norm), confidence=0.8)
    size = evidence.get("recipe", {}).get("train", {}).get("batch_size")
    if size is not None and size <= TINY_BATCH:
        title = f"batch norm with batches of {size}"
        return found("IN127", "warn", title, evidence={**norm, "batch_size": size}, confidence=0.8)
    return None


@rule(
    "IN128",
    "precision-problem",
    "check-init",
    meaning="The weights themselves are not kept in single precision.",
    detected="The dtypes of the model's parameters; and their different values, before and after steps with rate 0.",
    why="In half precision small updates are rounded away and epsilons become 0; double takes twice the time.",
    fix="Keep the weights in float32 and set train.precision: it computes in short formats and keeps them exact.",
    confused_with="Autocast, where only the arithmetic is short.",
    source="PyTorch AMP documentation; Micikevicius et al. 2018, Mixed Precision Training",
)
def weights_not_single(evidence: Mapping[str, Any]) -> Finding | None:
    """Weights in half or double precision, or rounded."""
    rounded = (evidence.get("fresh_gradients") or {}).get("rounded")
    if rounded:
        title = f"a step with rate 0 rounds weights to a few values: {', '.join(rounded[:4])}"
        return found("IN128", "warn", title, evidence={"rounded": rounded}, confidence=0.95)
    kinds = [kind for kind in probe(evidence, "one_step")["precisions"] if kind != "float32"]
    if not kinds:
        return None
    short = any(kind in ("float16", "bfloat16") for kind in kinds)
    title = f"there are weights in {', '.join(kinds)}"
    return found("IN128", "warn" if short else "note", title, evidence={"precisions": kinds}, confidence=0.8)


@rule(
    "IN129",
    "no-update",
    "check-init",
    meaning="The training step makes two updates or fewer in an epoch.",
    detected="Calls of the step per update, counted by a hook on the optimizer, against the batches of an epoch.",
    why="Training takes as many epochs as it should take updates.",
    fix="Check the indentation of optimizer.step(), or gather over fewer batches.",
    confused_with="Accumulation over a few batches on purpose.",
    source="derived",
)
def few_updates(evidence: Mapping[str, Any]) -> Finding | None:
    """A step that hardly ever updates."""
    step = probe(evidence, "one_step")
    if not step["updates"]:
        raise Missing("no update was made")
    calls = step["calls"] / step["updates"]
    if calls < 8 or 2 * calls < step["steps_per_epoch"]:
        return None
    title = f"one update in {calls:.0f} calls of the step, which an epoch has {step['steps_per_epoch']} of"
    facts = {key: step[key] for key in ("updates", "calls", "steps_per_epoch")}
    return found("IN129", "warn", title, evidence=facts, confidence=0.9)


@rule(
    "IN151",
    "unstable",
    "check-init",
    meaning="Momentum is so large that what the optimizer remembers does not fade within the run.",
    detected=(
        "The largest momentum m among the optimizer's groups of parameters: 1 or more is an error, a warning where the "
        "updates that it remembers, 1 / (1 - m), are three times those of the longest planned run or more."
    ),
    why="Each step is about as long as all before it together: the weights overshoot, at any rate.",
    fix="Set optimizer.momentum to 0.9.",
    confused_with="A long memory in a run of many thousand updates; batch norm's momentum, which may be 1.",
    source="Polyak 1964: the method converges for momenta below 1; derived",
)
def momentum_of_one(evidence: Mapping[str, Any]) -> Finding | None:
    """An optimizer that never forgets."""
    momentum = number(probe(evidence, "one_step")["momentum"])
    if momentum is None:
        return None
    if momentum < 1:
        return _remembers_too_long(momentum, evidence)
    title = f"the optimizer's momentum is {momentum:g}: from 1 on its steps grow without end"
    return found("IN151", "error", title, evidence={"momentum": momentum})


def _remembers_too_long(momentum: float, evidence: Mapping[str, Any]) -> Finding | None:
    """Report a memory far longer than the run."""
    runs = ((evidence.get("planned_rates") or {}).get("runs") or {}).values()
    longest, memory = max((run["steps"] for run in runs), default=None), 1 / (1 - momentum)
    if longest is None or memory < LONGER * longest:
        return None
    title = f"momentum {momentum:g} remembers {memory:.0f} updates, and the longest run has {longest}: nothing fades"
    facts = {"momentum": momentum, "remembered": memory, "longest_run": longest}
    return found("IN151", "warn", title, evidence=facts, confidence=0.85)
