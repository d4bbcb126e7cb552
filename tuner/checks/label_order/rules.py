"""Rules over train against val, and over labels against inputs, asked of the data alone (check-init): codes DA11x."""

from __future__ import annotations

from tuner.checks.cards import found, number, rule
from tuner.checks.label_order.evidence import LabelOrder
from tuner.checks.limits import SURE, Limit
from tuner.core.result import Finding

MIXED = Limit("mixed", 0.9, "of the entropy of random batches", "derived: a balanced sampler changes it by less")
RELABELLED = Limit("relabelled", 0.02, "of the examples", "zoo: careless sound Datasets change none")


@rule(
    "DA115",
    "unshuffled-data",
    "check-init",
    meaning="The order or the choice of the examples is not what training asks for.",
    detected="The labels of the first batches of an epoch have less entropy than batches drawn at random, by "
    f"{SURE:g} standard errors and below {MIXED:.0%} of it; or examples come with another label when they are asked "
    "for by the same index again.",
    why="Batches of one class pull the model to and fro; it ends where the last ones left it.",
    fix="Let __getitem__ read the example of its index, without state; give a map-style Dataset in any order.",
    confused_with="Few examples per batch, which chance allows for; over-sampling of rare classes; batches of a few "
    "examples each of some classes, drawn from scratch, for losses that compare examples.",
    source="37 reasons; cleanlab non_iid; Full Stack Deep Learning",
)
def batches_not_mixed(answer: LabelOrder) -> Finding | None:
    z = None if answer.drawn_by_class else number(answer.z)
    if z is not None and z < -SURE and (answer.entropy or 0.0) < MIXED * (answer.expected or 0.0):
        title = (
            f"the labels of a batch have an entropy of {answer.entropy:.2f} on average, of batches drawn at random "
            f"{answer.expected:.2f}: training gets them in an order"
        )
        return found("DA115", "error" if z < -2 * SURE else "warn", title, evidence=answer.to_json())
    if answer.relabelled > RELABELLED * answer.asked:
        title = f"{answer.relabelled} of {answer.asked} examples have another label when read again by their index"
        return found("DA115", "error", title, evidence=answer.to_json())
    return None
