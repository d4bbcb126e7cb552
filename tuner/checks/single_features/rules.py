"""Rules over train against val, and over labels against inputs, asked of the data alone (check-init): codes DA11x."""

from __future__ import annotations

from tuner.checks.cards import found, rule
from tuner.checks.limits import Limit
from tuner.checks.single_features.evidence import SingleFeatures
from tuner.core.result import Finding
from tuner.core.statistics import wilson

LEAK = Limit("leak", 0.97, "accuracy", "zoo: decisive measurements of sound tables stay below")
DECISIVE = Limit("decisive", 0.1, "accuracy", "zoo: the next column of sound tables is nearer")


@rule(
    "DA114",
    "target-leak",
    "check-init",
    meaning="One single column, or pixel, gives the label away.",
    detected="For each column the majority class in each of 64 bins, made on one half of train and judged on the "
    f"other: {LEAK:.0%} right, and {DECISIVE:.0%} better than the best column that does not go with it.",
    why="Such a column is often known only after the label (a result, a number given by outcome): it will be missing.",
    fix="Ask where the column comes from. If it is not known at the time of prediction, drop it.",
    confused_with="A decisive measurement, which is fine: then accept the code.",
    source="deepchecks SimpleFeatureContribution; Perlich et al. 2008; cleanlab spurious_correlations",
    explained_by=("DA104", "DA112"),
)
def feature_gives_label_away(answer: SingleFeatures) -> Finding | None:
    low, _ = wilson(answer.best, answer.n)
    if answer.best < LEAK or low < 0.9 or answer.chance > 0.9 or answer.features < 2:
        return None
    if answer.best - answer.second < min(DECISIVE, 0.8 * (1 - answer.second)):
        return None
    title = f"{answer.name} alone gives the label of {answer.best:.1%} of the examples"
    return found("DA114", "warn", title, evidence=answer.to_json())
