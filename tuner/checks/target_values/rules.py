"""Rules over quantities as targets, asked of the data alone (check-init): codes DA131 and DA132."""

from __future__ import annotations

from tuner.checks.cards import found, need, rule
from tuner.checks.limits import Limit
from tuner.checks.target_values.evidence import TargetValues
from tuner.core.result import Finding

APART = Limit("apart", 0.5, "of the examples", "derived: splits by group or by time overlap by half and more")
CHANCE = Limit("chance of apart", 1e-9, "p-value", "derived: small splits reach a distance of a half by chance")
GIVEN = Limit("given away", 0.98, "of the variance", "derived: the noise of measurements alone leaves more")
THE_VALUE = Limit("the value", 1e-9, "of the variance left", "derived: no step before is as near in a measured series")
AHEAD = Limit("ahead", 0.1, "of the variance", "derived: as the next column of tables whose columns go together")


@rule(
    "DA131",
    "train-val-shift",
    "check-init",
    meaning="The values to predict are of another size in val than in train.",
    detected="The largest distance of the two cumulative distributions (Kolmogorov and Smirnov) is more than "
    f"{APART:.0%}, with p below {CHANCE:g}.",
    why="Whatever is learnt on the scale of train is wrong on that of val.",
    fix="Transform the targets of both splits alike (unit, logarithm, the mean and spread of train).",
    confused_with="A val split that is another world on purpose, such as later years of a rising series.",
    source="deepchecks LabelDrift; Massey 1951, the Kolmogorov-Smirnov test",
)
def values_are_of_another_size(values: TargetValues) -> Finding | None:
    distance, p = need(values.distance, "there is no val split to compare with"), values.p or 0.0
    if distance <= APART or p >= CHANCE:
        return None
    before, after = values.medians or (0.0, 0.0)
    title = f"the values of val are not those of train: their medians are {before:.4g} in train and {after:.4g} in val"
    return found("DA131", "warn", title, evidence={"distance": distance, "p": p, "medians": [before, after]})


@rule(
    "DA132",
    "target-leak",
    "check-init",
    meaning="One single column gives the value to predict away.",
    detected="The squared correlation of each column of train with the value, of the numbers or of their ranks: "
    f"{GIVEN:.0%} or more for one, {AHEAD:.0%} more than for the best column that does not go with it. Where the "
    "columns beside it are the same quantity a step earlier or later, as in a window of a series, it must be the value "
    "itself.",
    why="Such a column is often known only after the value (the value itself, in another unit): it will be missing.",
    fix="Ask where the column comes from. If it is not known at the time of prediction, drop it; end a window before "
    "the value to predict.",
    confused_with="A decisive measurement, which is fine: then accept the code. The last value of a series, which is "
    "near to the next one by nature.",
    source="deepchecks SimpleFeatureContribution; Kaufman et al. 2012, Leakage in data mining",
)
def column_gives_value_away(values: TargetValues) -> Finding | None:
    best, second = need(values.best, "there are no columns, or too few examples"), values.second or 0.0
    if values.in_a_row:
        if values.by_value is None or values.by_value < 1 - THE_VALUE:
            return None
    elif best < GIVEN or best - second < min(AHEAD, 0.8 * (1 - second)):
        return None
    title = f"{values.name} alone explains {best:.1%} of the variance of what is to be predicted"
    return found("DA132", "warn", title, evidence={"best": best, "second": second, "name": values.name, "n": values.n})
