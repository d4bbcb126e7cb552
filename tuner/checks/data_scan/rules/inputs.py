"""Rules over the scan of the data (check-init): codes DA1xx."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict

from tuner.checks.cards import Missing, found, rule, some
from tuner.checks.data_scan.evidence import DataScan, SplitScan
from tuner.checks.data_scan.rules.common import is_image, splits_of, train_of
from tuner.checks.limits import Limit
from tuner.core.result import Finding

SHARED_SHARE = Limit(
    "shared share", 0.01, "of val", "Barz and Denzler 2020: near-copies by chance exist in every large image set"
)
SHARED_SHARE_COARSE = Limit(
    "shared share coarse", 0.05, "of val", "zoo: rows of coarse tables, and images in black and white, repeat by nature"
)
OWN_SCALE = Limit("own scale", 0.1, "standard errors", "derived: by chance 8 % of means are as near, and of spreads")
ENOUGH_COLUMNS = Limit("enough columns", 5, "columns", "derived: by chance ten numbers are as near once in 1e11")
MOSTLY_REPEATED = Limit(
    "mostly repeated", 0.9, "of train", "derived: over-sampling repeats a rare class, not nearly everything"
)
FEW = Limit("few", 20, "times that each example is there", "zoo: over-sampling of sound programs repeats less")


@rule(
    "DA101",
    "non-finite-input",
    "check-init",
    meaning="An input holds NaN or an infinity.",
    detected="Every value of train and val is checked once, and the first bad place is named.",
    why="One such value makes the loss, and after one update every weight, NaN.",
    fix="Fix or leave out the named examples, or fill the missing values in before they reach the model.",
    confused_with="A rate that is too high: there the step at which the loss turns NaN moves with the rate.",
    source="UMLAUT; SageMaker Debugger ExplodingTensor; TheDeepChecker",
)
def non_finite_input(scan: DataScan) -> Finding | None:
    bad = {name: split for name, split in splits_of(scan).items() if split.non_finite}
    if not bad:
        return None
    count = sum(split.non_finite for split in bad.values())
    first = next(iter(bad.values())).first_non_finite
    columns: Counter[str] = Counter()
    for split in bad.values():
        columns.update(split.non_finite_columns)
    listed = some([f"{column} ({most})" for column, most in columns.most_common()])
    where = f" in {listed}" if len(columns) > 1 else ""
    return found(
        "DA101",
        "error",
        f"{count} input values are NaN or infinite{where}, first in {first}",
        evidence={
            name: {"count": s.non_finite, "first": s.first_non_finite, "columns": dict(s.non_finite_columns)}
            for name, s in bad.items()
        },
    )


@rule(
    "DA103",
    "constant-input",
    "check-init",
    meaning="Whole inputs, or a channel or column over all examples, have a single value.",
    detected="Smallest and largest value of every example, and of every channel or column, are equal.",
    why="A constant input carries nothing about its label; when all are constant, only the class shares can be "
    "learned.",
    fix="Look at the named columns or at a few of the examples: a failed decode, a wrong index, a column to drop.",
    confused_with="One class that consists of plain pictures.",
    source="TheDeepChecker; UMLAUT",
)
def constant_input(scan: DataScan) -> Finding | None:
    split = train_of(scan)
    share = split.constant_inputs / (split.scanned or split.n) if is_image(split) else 0.0
    columns = split.constant_columns
    width = max(1, len(split.min))
    facts = {"constant_inputs": split.constant_inputs, "n": split.n, "constant_columns": columns[:20]}
    if share > 0.5 or len(columns) == width:
        what = f"{share:.0%} of the inputs" if share > 0.5 else "every column"
        return found("DA103", "error", f"{what} of train hold one single value", evidence=facts)
    if share > 0.05:
        return found("DA103", "warn", f"{share:.0%} of the train inputs hold one single value", evidence=facts)
    if columns:
        return found(
            "DA103",
            "note",
            f"{len(columns)} of {width} columns of train never vary: {', '.join(columns[:5])}",
            evidence=facts,
        )
    return None


@rule(
    "DA129",
    "train-val-shift",
    "check-init",
    meaning="Val was scaled by its own mean and spread, and not by those of train.",
    detected=f"A table of {ENOUGH_COLUMNS:g} columns or more, in which the mean of every column of train and of val "
    f"is 0 and its spread 1, to {OWN_SCALE:g} of what sampling leaves: a val split that was scaled by train is off by "
    "about the whole of it.",
    why="The same row gets other values in train and in val, the more so the more the splits differ: what is learnt of "
    "values does not hold in val, nor in use, where there is no split to take a mean of.",
    fix="Fit the scaler on train alone, and use it for val: scaler.fit(train); scaler.transform(val).",
    confused_with="Columns that are scaled by the whole set, before the split: their means in val are not exactly 0.",
    source="scikit-learn, Common pitfalls: inconsistent preprocessing; OmniAnomaly issue 39",
)
def val_scaled_by_itself(scan: DataScan) -> Finding | None:
    splits = splits_of(scan)
    if len(splits) < 2:
        raise Missing("there is no val split to compare with")
    if any(len(split.shape) != 1 or len(split.mean) < ENOUGH_COLUMNS for split in splits.values()):
        return None
    worst = {name: _off_scale(split) for name, split in splits.items()}
    if any(value is None or value > OWN_SCALE for value in worst.values()):
        return None
    columns = len(train_of(scan).mean)
    title = f"each of the {columns} columns has mean 0 and spread 1 in train, and in val: they were scaled apart"
    return found("DA129", "warn", title, evidence={"of_sampling": worst, "columns": columns})


def _off_scale(split: SplitScan) -> float | None:
    """Return the farthest that a column's mean is from 0, or its spread from 1, in standard errors of these."""
    values = [(m, s) for m, s in zip(split.mean, split.std, strict=True) if m is not None and s]
    if len(values) < ENOUGH_COLUMNS:
        return None
    return max(max(abs(m), abs(s - 1) * math.sqrt(2)) * math.sqrt(split.n) for m, s in values)


@rule(
    "DA104",
    "train-val-overlap",
    "check-init",
    meaning="Examples of val are in train as well.",
    detected="A hash of every example's bytes in train and val.",
    why="What the model has memorised counts as generalisation: val is too good, and search prefers memorising.",
    fix="Remove the copies before splitting, or split by group (file, patient, scene) and give val separately.",
    confused_with="Coarse tables and tiny images of few values, where different examples are equal by nature.",
    source="deepchecks SimilarImageLeakage; cleanlab near_duplicate",
    explained_by=("DA105",),
)
def train_val_overlap(scan: DataScan) -> Finding | None:
    train, across = train_of(scan), scan.across
    if across is None:
        raise Missing(scan.no_duplicates or "there is no val split to compare with")
    if not across.duplicates:
        return None
    within = (train.duplicates or 0) / train.n
    # images of few values and pixels repeat by chance, as often within train as across
    limit = SHARED_SHARE if is_image(train) and within < across.share / 3 else SHARED_SHARE_COARSE
    telling = across.share > limit and across.duplicates >= 3
    copied = across.agreeing >= 0.99 * across.duplicates
    return found(
        "DA104",
        "warn" if telling and copied else "note",
        f"{across.duplicates} val examples ({across.share:.1%}) are in train as well",
        evidence=asdict(across),
    )


@rule(
    "DA105",
    "repeated-data",
    "check-init",
    meaning="Examples of one split repeat others exactly.",
    detected="A hash of every example's bytes; an error where train has a twentieth of different examples or less.",
    why="An epoch is longer than the data is rich, and a random split puts copies on both sides.",
    fix="Remove the copies, or make sure that they are meant (over-sampling of a rare class).",
    confused_with="Over-sampling on purpose; coarse tables.",
    source="cleanlab; 37 reasons",
)
def repeated_examples(scan: DataScan) -> Finding | None:
    split = train_of(scan)
    if split.duplicates is None:
        raise Missing(scan.no_duplicates or "train was not compared")
    share = split.duplicates / split.n
    facts = {"duplicates": split.duplicates, "n": split.n, "first": split.first_duplicate}
    different = split.n - split.duplicates
    if share > MOSTLY_REPEATED and split.n >= FEW * different:
        title = f"train has only {different} different examples, each about {split.n / different:.0f} times"
        return found("DA105", "error", title, evidence=facts)
    if share > 0.5:
        return found("DA105", "warn", f"{share:.0%} of the train examples repeat others", evidence=facts)
    if share > 0.01:
        return found("DA105", "note", f"{split.duplicates} train examples ({share:.1%}) repeat others", evidence=facts)
    return None


@rule(
    "DA130",
    "target-leak",
    "check-init",
    meaning="A column of the table numbers the rows: it says which row it is, not what is in it.",
    detected="whole numbers, all different, that are consecutive or in order down the file, or in a column that is "
    "called an id",
    why="A row's number can be learnt by heart, and where rows were collected class by class it gives the class away; "
    "new rows have numbers that the model has never seen.",
    fix="Add the column to data.drop.",
    confused_with="a time at which each row was taken, where time is meant to be an input",
    source="scikit-learn's common pitfalls; Kaufman et al. 2012, Leakage in data mining",
)
def column_of_identifiers(scan: DataScan) -> Finding | None:
    names = scan.columns.get("identifiers", ())
    if not names:
        return None
    title = f"{', '.join(map(repr, names[:5]))} {'numbers' if len(names) == 1 else 'number'} the rows of the table"
    return found("DA130", "warn", title, evidence={"columns": list(names)}, remedy=f"Set data.drop = {list(names)}.")
