"""Rules over the scan of the data (check-init): codes DA1xx."""

from __future__ import annotations

from tuner.checks.cards import Missing, found, rule
from tuner.checks.data_scan.evidence import DataScan
from tuner.checks.data_scan.rules.common import is_image, splits_of, train_of
from tuner.checks.limits import Limit
from tuner.core.result import Finding

PER_CLASS = Limit(
    "per class", 10, "examples per class", "derived: a class mean of fewer is off by a third of its spread"
)
IMBALANCE = Limit("imbalance", 10.0, "times the smallest class", "SageMaker Debugger, ClassImbalance (10:1)")


@rule(
    "DA102",
    "wrong-label-range",
    "check-init",
    meaning="A label lies outside 0..C-1.",
    detected="The smallest and largest label of train and val against the number of classes.",
    why="The loss indexes the outputs by the label: it crashes, or reads the wrong output.",
    fix="Map the labels to 0..C-1, or set data.num_classes to the largest label plus one.",
    confused_with="A class that is reserved and has no example: that is no error.",
    source="checklist, step 1",
)
def label_outside_range(scan: DataScan) -> Finding | None:
    bad = {name: split for name, split in splits_of(scan).items() if split.labels_outside}
    if not bad:
        return None
    count = sum(split.labels_outside for split in bad.values())
    first = next(iter(bad.values()))
    return found(
        "DA102",
        "error",
        f"{count} labels lie outside 0..{scan.num_classes - 1}, first in {first.first_label_outside}",
        evidence={name: {"count": s.labels_outside, "range": s.label_range} for name, s in bad.items()},
    )


@rule(
    "DA106",
    "label-noise",
    "check-init",
    meaning="Equal inputs carry different labels.",
    detected="Examples with the same bytes and different labels.",
    why="No model can be right about both: training accuracy has a ceiling, and memorising hurts.",
    fix="Look at the named pair; relabel or drop what contradicts itself.",
    confused_with="Coarse tables, where the columns do not determine the label.",
    source="cleanlab",
    explained_by=("DA115", "DA121"),
)
def contradicting_labels(scan: DataScan) -> Finding | None:
    split = train_of(scan)
    if split.conflicting is None:
        raise Missing(scan.no_duplicates or "train was not compared")
    if not split.conflicting:
        return None
    share = split.conflicting / split.n
    return found(
        "DA106",
        "warn" if share > 0.01 and is_image(split) else "note",
        f"{split.conflicting} train examples ({share:.1%}) equal another one that has a different label",
        evidence={"conflicting": split.conflicting, "n": split.n, "first": split.first_conflict},
    )


@rule(
    "DA107",
    "class-imbalance",
    "check-init",
    meaning="Some classes have far more examples than others.",
    detected=f"The largest class of train has more than {IMBALANCE} times the examples of the smallest.",
    why="Accuracy is then explained by the majority; rare classes hardly enter the loss.",
    fix="Read the accuracy per class, and compare with the largest class's share; weights or a sampler where rare "
    "classes matter.",
    source="SageMaker Debugger ClassImbalance (10:1)",
)
def class_imbalance(scan: DataScan) -> Finding | None:
    counts = train_of(scan).class_counts
    if not counts:
        raise Missing("train has no class counts")
    present = [count for count in counts if count]
    if len(present) < 2 or max(present) / min(present) <= IMBALANCE:
        return None
    share = max(present) / sum(present)
    title = (
        f"the largest class has {max(present) / min(present):.0f} times the examples of the smallest, "
        f"{share:.0%} of train"
    )
    return found("DA107", "note", title, evidence={"class_counts": counts, "largest_share": share})


@rule(
    "DA108",
    "train-val-shift",
    "check-init",
    meaning="A class of val has no example in train, or all examples of train are of one class.",
    detected="Class counts of train and val.",
    why="What was never shown cannot be learned; its val examples are wrong whatever is tuned.",
    fix="Check how the data was split and how the class folders or label columns are matched.",
    confused_with="A class that is reserved and has no example at all.",
    source="deepchecks NewLabels",
)
def class_without_train_examples(scan: DataScan) -> Finding | None:
    if scan.train is None or scan.val is None:
        raise Missing("train and val were not both scanned")
    train, val = scan.train.class_counts, scan.val.class_counts
    if not train:
        raise Missing("the targets are no classes")
    names = scan.class_names or [str(i) for i in range(len(train))]
    if sum(count > 0 for count in train) < 2:
        return found("DA108", "error", "all train examples are of one class", evidence={"class_counts": train})
    lacking = [names[i] for i, (t, v) in enumerate(zip(train, val, strict=True)) if v and not t]
    if not lacking:
        return None
    title = f"{len(lacking)} classes of val have no train example: {', '.join(lacking[:5])}"
    return found("DA108", "warn", title, evidence={"lacking": lacking})


@rule(
    "DA116",
    "too-little-data",
    "check-init",
    meaning="Train has far fewer examples than val, or only a handful per class.",
    detected=f"The sizes of the splits: train below half of val; or fewer than {PER_CLASS:g} examples per class on "
    "average.",
    why="A subset that was left in from debugging gives a model that can only memorise.",
    fix="Look for a slice, a limit or a fraction in the loading of train.",
    confused_with="Learning from few examples on purpose.",
    source="37 reasons: is there enough data; checklist, step 2",
    explained_by=("DA105", "DA108"),
)
def train_is_small(scan: DataScan) -> Finding | None:
    n, val = train_of(scan).n, scan.val.n if scan.val is not None else 0
    facts = {"train": n, "val": val, "classes": scan.num_classes}
    if n < val / 2:
        title = f"train has {n} examples, val has {val}"
        return found("DA116", "warn", title, evidence=facts)
    if n < PER_CLASS * scan.num_classes:
        title = f"train has {n} examples for {scan.num_classes} classes"
        return found("DA116", "note", title, evidence=facts)
    return None


@rule(
    "DA117",
    "wrong-label-range",
    "check-init",
    meaning="No example has the label 0, or another label below the largest.",
    detected="Labels below the largest of train and val that occur in neither.",
    why="The model has an output for a class that does not exist; labels that start at 1 are the usual reason.",
    fix="Subtract 1 where labels start at 1; otherwise map the labels to 0..C-1.",
    confused_with="A class that is reserved, such as a background, and harmless.",
    source="checklist, step 1",
)
def label_never_used(scan: DataScan) -> Finding | None:
    counts = [split.class_counts for split in splits_of(scan).values()]
    if not any(counts):
        raise Missing("the targets are no classes")
    unused = [label for label in range(scan.num_classes) if all(label >= len(c) or not c[label] for c in counts)]
    if not unused:
        return None
    shown = ", ".join(map(str, unused[:5])) + (" ..." if len(unused) > 5 else "")
    hint = ": do the labels start at 1?" if unused == [0] else ""
    title = f"no example of train or val has the label {shown}{hint}"
    return found("DA117", "note", title, evidence={"unused": unused[:100], "num_classes": scan.num_classes})
