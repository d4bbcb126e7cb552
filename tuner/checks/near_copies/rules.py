"""Rules over train against val, and over labels against inputs, asked of the data alone (check-init): codes DA11x."""

from __future__ import annotations

from tuner.checks.cards import Missing, found, rule
from tuner.checks.limits import Limit
from tuner.checks.near_copies.evidence import NearCopies
from tuner.core.result import Finding, Severity

NEAR_SHARE = Limit("near share", 0.05, "of val", "Barz and Denzler 2020: CIFAR-10 itself has 3 %")
SOME_NEAR = Limit("some near", 0.01, "of val", "zoo: sound splits of images have less")
CHANCES = Limit("chances", 5, "times what chance gives, and images", "derived: fewer may be chance")
AGREEING = Limit("copies agree", 0.9, "of the near ones", "derived: copies share their label")
NEAR_DIMENSION = Limit("near dimension", 4.0, "dimensions", "derived: 10 q**d of near ones by chance, q = 0.25")


@rule(
    "DA111",
    "train-val-overlap",
    "check-init",
    meaning="Images of val are nearly the same as images of train.",
    detected="Small pictures of 600 val images against those of train: the nearest is four times nearer than the "
    "tenth nearest, and than images are apart. In data of as many dimensions as these fill, that is rare by chance; "
    f"{NEAR_SHARE:.0%} of val must do it ({SOME_NEAR:.0%} for a note), at least {CHANCES:g} times what chance gives, "
    "with the same labels.",
    why="Val measures memory: copies, frames of one film and pictures of one patient are no new examples.",
    fix="Split by group (film, patient, scene), or remove the copies before splitting.",
    confused_with="Simple images such as digits, which lie near each other by nature: there the tenth is as near.",
    source="deepchecks SimilarImageLeakage; Barz and Denzler 2020; Levina and Bickel 2004",
    explained_by=("DA104",),
)
def nearly_the_same(answer: NearCopies) -> Finding | None:
    if answer.dimension < NEAR_DIMENSION:
        raise Missing(f"the images fill {answer.dimension:.1f} dimensions only, so near ones are no copies")
    if answer.near < CHANCES or answer.share < SOME_NEAR or answer.near < CHANCES * answer.expected:
        return None
    if (answer.agreeing or 0.0) < AGREEING:
        return None
    first, second = answer.first or ("?", "?")
    title = f"{answer.share:.0%} of the val images are nearly those of train, such as {second} and {first}"
    severity: Severity = "warn" if answer.share > NEAR_SHARE else "note"
    return found("DA111", severity, title, evidence=answer.to_json())
