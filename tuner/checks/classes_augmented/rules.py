"""The rule over what augmentation does to single classes (check-init): DA122."""

from __future__ import annotations

import math

from tuner.checks.cards import found, rule
from tuner.checks.classes_augmented.evidence import ClassesAugmented
from tuner.checks.limits import Limit
from tuner.core.result import Finding

TAKEN = Limit("taken", 0.2, "of a class", "zoo: strong augmentation of sound programs stays below")
SURE = Limit("sure of a class", 3.0, "standard errors", "derived: one in 700 by chance")
FEW = Limit("few to take", 15, "examples of a class", "derived: below it one example is 7 %")
ALONE = Limit("alone", 3.0, "times the other classes", "zoo: what makes every class harder goes to many of them")


@rule(
    "DA122",
    "augmentation-harms",
    "check-init",
    meaning="Augmentation makes one class look like another: what told the two apart is gone.",
    detected="A kernel classifier that was made on clean examples is asked about others, clean and augmented: "
    f"{TAKEN:.0%} more of a class go to one other class once they are augmented, and of that class to this one, each "
    f"at {SURE:g} standard errors and {ALONE:g} times as much as of the classes beside them.",
    why="A b in a mirror is a d: the model is told both names for one picture, and loses these classes alone, which "
    "the accuracy over all classes hides.",
    fix="Leave out the flip or turn that maps one class to another.",
    confused_with="Strong augmentation that makes every class harder, which goes to many classes, not to a pair.",
    source="Shorten and Khoshgoftaar 2019, A survey on image data augmentation: safety of a transform (6 and 9)",
)
def one_class_becomes_another(answer: ClassesAugmented) -> Finding | None:
    taken = {k for k in range(len(answer.counts)) if _is_taken(answer, k)}
    pairs = [(k, answer.taken_for[k]) for k in sorted(taken) if answer.taken_for[k] in taken]
    mutual = [(a, b) for a, b in pairs if a < b and answer.taken_for[b] == a]
    if not mutual:
        return None
    names = answer.class_names or [str(k) for k in range(len(answer.counts))]
    listed = ", ".join(f"{names[a]} and {names[b]}" for a, b in mutual[:4])
    first = mutual[0][0]
    title = (
        f"augmentation makes classes look alike: {listed} (of class {names[first]}, "
        f"{answer.share_taken[first][1]:.0%} are taken for the other, {answer.share_taken[first][0]:.0%} without)"
    )
    facts = {"pairs": [[names[a], names[b]] for a, b in mutual], **answer.to_json()}
    return found("DA122", "warn", title, evidence=facts)


def _is_taken(answer: ClassesAugmented, k: int) -> bool:
    count, (before, after) = answer.counts[k], answer.share_taken[k]
    if count < FEW:
        return False
    error = math.sqrt((before * (1 - before) + after * (1 - after)) / count)
    return after - before > max(TAKEN, SURE * error, ALONE * answer.rest[k])
