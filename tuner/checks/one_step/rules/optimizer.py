"""Rules over the schedule, simulated through the whole planned run (check-init): codes IN14x."""

from __future__ import annotations

from dataclasses import asdict

from tuner.checks.cards import Missing, found, number, rule
from tuner.checks.fresh_gradients.evidence import FreshGradients
from tuner.checks.limits import Limit
from tuner.checks.one_step.evidence import OneStep
from tuner.checks.planned_rates.evidence import PlannedRates
from tuner.core.result import Finding


@rule(
    "IN147",
    "schedule-mistake",
    "check-init",
    meaning="The training step changes the learning rate by itself.",
    detected="The optimizer's rates at a few updates that are made without any schedule; what changes them within the "
    "optimizer's own step is left out.",
    why="The step is called for every batch: a decay that is meant for epochs ends the training within the first. And "
    "what [schedule] sets after each update is at odds with it.",
    fix='Leave the rate to [schedule] (name, and every = "epoch" for what counts epochs); take scheduler.step() and '
    "param_groups[...]['lr'] out of the step.",
    confused_with="Optimizers that adapt their rate in their own step.",
    source="PyTorch documentation, How to adjust learning rate: scheduler.step() once per epoch; pytorch issue 60718",
)
def step_sets_rate(step: OneStep) -> Finding | None:
    rates = step.rates_set or []
    if not rates:
        return None
    listed = ", ".join(f"{rate:.4g}" for rate in rates)
    title = f"the training step changes the rate by itself: {len(rates)} updates without a schedule have {listed}"
    return found("IN147", "warn", title, evidence={"rates": rates})


STRANGE_MOMENTUM = Limit(
    "strange momentum", 0.9, "momentum of batch norm", "PyTorch: 0.1 is the default, and is the weight of the new batch"
)
TINY_BATCH = Limit("tiny batch", 2, "examples", "Wu and He 2018, Group Normalization: batch norm degrades below 4")
LONGER = Limit("longer", 3.0, "times the longest run", "derived: memory then does not fade within the run")


@rule(
    "IN122",
    "optimizer-state-lost",
    "check-init",
    meaning="The training step does not go on with the recipe's optimizer: it builds another, or clears its state.",
    detected="Hooks on every optimizer say which one makes the updates of a few steps, and whether what it "
    "remembered after one update (momentum, second moments) is still there at the next.",
    why="Momentum and Adam's averages start again each time, and the schedule moves a rate that nobody uses.",
    fix="Use the optimizer that the step is given; never build one, and never clear its state, within a step.",
    confused_with="A second optimizer of one's own that is kept between steps; plain SGD, which remembers nothing.",
    source="Full Stack Deep Learning, troubleshooting; derived",
)
def state_lost(step: OneStep) -> Finding | None:
    facts = step.only("updates", "calls", "other_optimizers", "state_lost", "moved")
    if step.other_optimizers > 1:
        title = f"{step.other_optimizers} optimizers that are not the recipe's made {step.calls} updates"
        return found("IN122", "error", title, evidence=facts)
    if step.other_optimizers and not step.updates:
        title = "the training step updates with an optimizer of its own: the recipe's, and its rate, are not used"
        return found("IN122", "warn", title, evidence=facts)
    if step.state_lost:
        return found("IN122", "error", "what the optimizer remembered is gone at the next update", evidence=facts)
    return None


@rule(
    "IN127",
    "normalisation-misuse",
    "check-init",
    meaning="Batch norm cannot learn the statistics that evaluation uses.",
    detected="Running statistics of layers in train mode that a few steps leave as they are; a momentum of "
    f"{STRANGE_MOMENTUM:g} or more, which in PyTorch is the weight of the newest batch; batches of {TINY_BATCH:g} "
    "examples or fewer.",
    why="Train is judged by the batch's statistics, val by the running ones: val is noisy or plainly wrong.",
    fix="momentum = 0.1 (Keras's 0.99 is 0.01 here); batches of 8 or more, or group norm.",
    confused_with="Batch norm in eval mode, which is another finding; statistics frozen on purpose.",
    source="PyTorch BatchNorm documentation (momentum); Wu and He 2018, Group Normalization",
)
def batch_norm_misused(step: OneStep) -> Finding | None:
    norm = step.normalisation
    if not norm.layers:
        return None
    if norm.still:
        title = f"{len(norm.still)} batch norms do not learn their statistics: {', '.join(norm.still[:4])}"
        return found("IN127", "warn", title, evidence=asdict(norm))
    if (norm.largest_momentum or 0.0) >= STRANGE_MOMENTUM:
        title = f"a batch norm has momentum {norm.largest_momentum:g}: its statistics are those of the last batch"
        return found("IN127", "warn", title, evidence=asdict(norm))
    size = step.batch_size
    if size is not None and size <= TINY_BATCH:
        title = f"batch norm with batches of {size}"
        return found("IN127", "warn", title, evidence={**asdict(norm), "batch_size": size})
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
def weights_not_single(step: OneStep, again: FreshGradients | None) -> Finding | None:
    rounded = again.rounded if again is not None else ()
    if rounded:
        title = f"a step with rate 0 rounds weights to a few values: {', '.join(rounded[:4])}"
        return found("IN128", "warn", title, evidence={"rounded": list(rounded)})
    kinds = [kind for kind in step.precisions if kind != "float32"]
    if not kinds:
        return None
    short = any(kind in ("float16", "bfloat16") for kind in kinds)
    title = f"there are weights in {', '.join(kinds)}"
    return found("IN128", "warn" if short else "note", title, evidence={"precisions": kinds})


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
def few_updates(step: OneStep) -> Finding | None:
    if not step.updates:
        raise Missing("no update was made")
    calls = step.calls / step.updates
    if calls < 8 or 2 * calls < step.steps_per_epoch:
        return None
    title = f"one update in {calls:.0f} calls of the step, which an epoch has {step.steps_per_epoch} of"
    facts = step.only("updates", "calls", "steps_per_epoch")
    return found("IN129", "warn", title, evidence=facts)


@rule(
    "IN151",
    "unstable",
    "check-init",
    meaning="Momentum is so large that what the optimizer remembers does not fade within the run.",
    detected="The largest momentum m among the optimizer's groups of parameters: 1 or more is an error, a warning "
    f"where the updates that it remembers, 1 / (1 - m), are {LONGER:g} times those of the longest planned run or more.",
    why="Each step is about as long as all before it together: the weights overshoot, at any rate.",
    fix="Set optimizer.momentum to 0.9.",
    confused_with="A long memory in a run of many thousand updates; batch norm's momentum, which may be 1.",
    source="Polyak 1964: the method converges for momenta below 1; derived",
)
def momentum_of_one(step: OneStep, planned: PlannedRates | None) -> Finding | None:
    momentum = number(step.momentum)
    if momentum is None:
        return None
    if momentum < 1:
        return _remembers_too_long(momentum, planned)
    title = f"the optimizer's momentum is {momentum:g}: from 1 on its steps grow without end"
    return found("IN151", "error", title, evidence={"momentum": momentum})


def _remembers_too_long(momentum: float, planned: PlannedRates | None) -> Finding | None:
    """Report a memory far longer than the run."""
    runs = planned.runs.values() if planned is not None else ()
    longest, memory = max((run.steps for run in runs), default=None), 1 / (1 - momentum)
    if longest is None or memory < LONGER * longest:
        return None
    title = f"momentum {momentum:g} remembers {memory:.0f} updates, and the longest run has {longest}: nothing fades"
    facts = {"momentum": momentum, "remembered": memory, "longest_run": longest}
    return found("IN151", "warn", title, evidence=facts)
