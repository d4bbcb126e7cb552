"""Rules over what one training step does with gradients, state and batches (check-init): codes IN122 to 129, IN15x."""

from __future__ import annotations

from tuner.checks.batch_use.evidence import BatchUse
from tuner.checks.cards import Missing, found, number, rule
from tuner.checks.evidence import NotMeasured
from tuner.checks.limits import Limit
from tuner.checks.step_diet.evidence import StepDiet
from tuner.core.result import Finding

HALF_USED = Limit("half used", 0.75, "of a batch", "zoo: micro-batches and balancing use more")


@rule(
    "IN125",
    "repeated-data",
    "check-init",
    meaning="The training step does not train on the batch that it is given.",
    detected="The step is given batches that share no example; hashes say which examples reach the model. It sees "
    "those of an earlier batch, or less than three quarters of each batch. And either half of a batch is swapped for "
    "other examples: the gradient that the update sees must change.",
    why="The model sees a few examples again and again, or only a part of the data.",
    fix="Use the whole of `batch` in every call; look for a slice, a batch that was kept, an index on the loss, or a "
    "zero_grad() within a loop over parts of the batch.",
    confused_with="A step that mixes or augments inputs, whose examples are not recognised; a memory of old examples.",
    source="derived",
)
def other_examples(use: BatchUse | None, diet: StepDiet | NotMeasured) -> Finding | None:
    if use is not None and use.idle:
        which = "first" if use.idle[0] == 0 else "second"
        title = f"an update is the same whatever the {which} half of its batch holds: it is made from the rest alone"
        return found("IN125", "error", title, evidence=use.to_json())
    if isinstance(diet, NotMeasured):
        raise Missing(diet.why)
    if not diet.own_step or diet.unknown > 0.05:
        return None
    if diet.stale > 0.5 and diet.used < 0.5:
        title = f"{diet.stale:.0%} of the examples that the step trains on are those of earlier batches"
        return found("IN125", "error", title, evidence=diet.to_json())
    if diet.used < HALF_USED:
        return found("IN125", "warn", f"the step uses {diet.used:.0%} of each batch", evidence=diet.to_json())
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
def step_mispairs(diet: StepDiet) -> Finding | None:
    wrong = number(diet.mispaired)
    if wrong is None or wrong < 0.2:
        return None
    title = f"{wrong:.0%} of the labels that the step gives the loss are not those of its inputs"
    return found("IN126", "error", title, evidence=diet.to_json())
