"""Rules over train against val, and over labels against inputs, asked of the data alone (check-init): codes DA11x."""

from __future__ import annotations

from tuner.checks.cards import found, rule
from tuner.checks.class_shares.evidence import ClassShares
from tuner.checks.limits import Limit
from tuner.core.result import Finding, Severity

LABEL_DISTANCE = Limit(
    "label distance", 0.5, "half the summed difference of shares", "zoo: splits by group differ by less"
)


@rule(
    "DA118",
    "train-val-shift",
    "check-init",
    meaning="The classes have other shares in val than in train.",
    detected="Half the summed difference of the class shares; a warning above one half, where chi-squared says that "
    "it is no chance, a note above a fifth.",
    why="Val weighs the classes differently from what is learned, and may lack some of them.",
    fix="Draw the splits at random, stratified by class.",
    confused_with="A balanced val beside an unbalanced train, on purpose.",
    source="deepchecks LabelDrift",
    explained_by=("DA108",),
)
def class_shares_differ(answer: ClassShares) -> Finding | None:
    distance = answer.distance
    if answer.p > 1e-9 or distance < 0.2:
        return None
    title = f"the class shares of val differ from those of train by {distance:.0%}"
    severity: Severity = "warn" if distance > LABEL_DISTANCE else "note"
    return found("DA118", severity, title, evidence=answer.to_json())
