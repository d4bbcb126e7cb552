"""Rules over the scan of the data (check-init): codes DA1xx."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.core.result import Change, Finding
from tuner.rules import Missing, found, rule

# near-copies by chance exist in every large image set; a leak copies more than this share of val
SHARED_SHARE = 0.01
# rows of a coarse table, and tiny images in black and white, repeat by nature
SHARED_SHARE_COARSE = 0.05
IMBALANCE = 10.0
# over-sampling repeats a rare class, not nearly everything
MOSTLY_REPEATED = 0.9
FEW = 20


def _scan(evidence: Mapping[str, Any]) -> Mapping[str, Any]:
    scan = evidence.get("data_scan")
    if not scan:
        raise Missing("the data was not scanned")
    if "skipped" in scan:
        raise Missing(scan["skipped"])
    return scan


def _splits(scan: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {split: scan[split] for split in ("train", "val") if split in scan}


def _is_image(split: Mapping[str, Any]) -> bool:
    return len(split["shape"]) >= 3


@rule(
    "DA101",
    "non-finite-input",
    "check-init",
    meaning="An input holds NaN or an infinity.",
    detected="Every value of train and val is checked once, and the first bad place is named.",
    why="One such value makes the loss, and after one update every weight, NaN.",
    fix="Mend or leave out the named examples, or fill the missing values in before they reach the model.",
    confused_with="A rate that is too high: there the step at which the loss turns NaN moves with the rate.",
    source="UMLAUT; SageMaker Debugger ExplodingTensor; TheDeepChecker",
)
def non_finite_input(evidence: Mapping[str, Any]) -> Finding | None:
    """NaN or infinity among the inputs."""
    bad = {name: split for name, split in _splits(_scan(evidence)).items() if split["non_finite"]}
    if not bad:
        return None
    count = sum(split["non_finite"] for split in bad.values())
    first = next(iter(bad.values()))["first_non_finite"]
    return found(
        "DA101",
        "error",
        f"{count} input values are NaN or infinite, first in {first}",
        evidence={name: {"count": s["non_finite"], "first": s["first_non_finite"]} for name, s in bad.items()},
    )


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
def label_outside_range(evidence: Mapping[str, Any]) -> Finding | None:
    """Labels that the model has no output for."""
    scan = _scan(evidence)
    bad = {name: split for name, split in _splits(scan).items() if split["labels_outside"]}
    if not bad:
        return None
    count = sum(split["labels_outside"] for split in bad.values())
    first = next(iter(bad.values()))
    return found(
        "DA102",
        "error",
        f"{count} labels lie outside 0..{scan['num_classes'] - 1}, first in {first['first_label_outside']}",
        evidence={name: {"count": s["labels_outside"], "range": s["label_range"]} for name, s in bad.items()},
    )


@rule(
    "DA103",
    "constant-input",
    "check-init",
    meaning="Whole inputs, or a channel or column over all examples, have a single value.",
    detected="Smallest and largest value of every example, and of every channel or column, are equal.",
    why=(
        "A constant input carries nothing about its label; when all are constant, only the class shares can be learned."
    ),
    fix="Look at the named columns or at a few of the examples: a failed decode, a wrong index, a column to drop.",
    confused_with="One class that consists of plain pictures.",
    source="TheDeepChecker; UMLAUT",
)
def constant_input(evidence: Mapping[str, Any]) -> Finding | None:
    """Inputs that do not vary."""
    split = _splits(_scan(evidence)).get("train")
    if split is None:
        raise Missing("train was not scanned")
    share = split["constant_inputs"] / split["n"] if _is_image(split) else 0.0
    columns = split["constant_columns"]
    width = max(1, len(split["min"]))
    facts = {"constant_inputs": split["constant_inputs"], "n": split["n"], "constant_columns": columns[:20]}
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
    "DA104",
    "train-val-overlap",
    "check-init",
    meaning="Examples of val are in train as well.",
    detected="A hash of every example's bytes in train and val.",
    why="What the model has memorised counts as generalisation: val is too good, and search prefers memorising.",
    fix="Remove the copies before splitting, or split by group (file, patient, scene) and give val separately.",
    confused_with="Coarse tables and tiny images of few values, where different examples are equal by nature.",
    source="deepchecks SimilarImageLeakage; cleanlab near_duplicate",
)
def train_val_overlap(evidence: Mapping[str, Any]) -> Finding | None:
    """The same examples in train and val."""
    scan = _scan(evidence)
    if scan.get("across") is None:
        raise Missing(scan.get("no_duplicates", "there is no val split to compare with"))
    across, image = scan["across"], _is_image(scan["train"])
    if not across["duplicates"]:
        return None
    within = scan["train"].get("duplicates", 0) / scan["train"]["n"]
    # images of few values and pixels repeat by chance, as often within train as across
    limit = SHARED_SHARE if image and within < across["share"] / 3 else SHARED_SHARE_COARSE
    telling = across["share"] > limit and across["duplicates"] >= 3
    copied = across["agreeing"] >= 0.99 * across["duplicates"]
    return found(
        "DA104",
        "warn" if telling and copied else "note",
        f"{across['duplicates']} val examples ({across['share']:.1%}) are in train as well",
        evidence=dict(across),
        confidence=0.6 if not image or scan["train"].get("duplicates", 0) > 0.5 * scan["train"]["n"] else 0.9,
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
def repeated_examples(evidence: Mapping[str, Any]) -> Finding | None:
    """Exact copies within train."""
    scan = _scan(evidence)
    split = scan.get("train", {})
    if "duplicates" not in split:
        raise Missing(scan.get("no_duplicates", "train was not compared"))
    share = split["duplicates"] / split["n"]
    facts = {"duplicates": split["duplicates"], "n": split["n"], "first": split["first_duplicate"]}
    different = split["n"] - split["duplicates"]
    if share > MOSTLY_REPEATED and split["n"] >= FEW * different:
        title = f"train has only {different} different examples, each about {split['n'] / different:.0f} times"
        return found("DA105", "error", title, evidence=facts)
    if share > 0.5:
        return found(
            "DA105", "warn", f"{share:.0%} of the train examples repeat others", evidence=facts, confidence=0.95
        )
    if share > 0.01:
        return found(
            "DA105", "note", f"{split['duplicates']} train examples ({share:.1%}) repeat others", evidence=facts
        )
    return None


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
)
def contradicting_labels(evidence: Mapping[str, Any]) -> Finding | None:
    """The same input with different labels."""
    scan = _scan(evidence)
    split = scan.get("train", {})
    if "conflicting" not in split:
        raise Missing(scan.get("no_duplicates", "train was not compared"))
    if not split["conflicting"]:
        return None
    share = split["conflicting"] / split["n"]
    return found(
        "DA106",
        "warn" if share > 0.01 and _is_image(split) else "note",
        f"{split['conflicting']} train examples ({share:.1%}) equal another one that has a different label",
        evidence={"conflicting": split["conflicting"], "n": split["n"], "first": split["first_conflict"]},
        confidence=0.8,
    )


@rule(
    "DA107",
    "class-imbalance",
    "check-init",
    meaning="Some classes have far more examples than others.",
    detected="The largest class of train has more than ten times the examples of the smallest.",
    why="Accuracy is then explained by the majority; rare classes hardly enter the loss.",
    fix=(
        "Read the accuracy per class, and compare with the largest class's share; weights or a sampler where "
        "rare classes matter."
    ),
    source="SageMaker Debugger ClassImbalance (10:1)",
)
def class_imbalance(evidence: Mapping[str, Any]) -> Finding | None:
    """Classes of very different size."""
    counts = _scan(evidence).get("train", {}).get("class_counts")
    if not counts:
        raise Missing("train has no class counts")
    present = [count for count in counts if count]
    if len(present) < 2 or max(present) <= IMBALANCE * min(present):
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
def class_without_train_examples(evidence: Mapping[str, Any]) -> Finding | None:
    """Classes that train lacks."""
    scan = _scan(evidence)
    if not {"train", "val"} <= set(scan):
        raise Missing("train and val were not both scanned")
    train, val = scan["train"]["class_counts"], scan["val"]["class_counts"]
    names = scan.get("class_names") or [str(i) for i in range(len(train))]
    if sum(count > 0 for count in train) < 2:
        return found("DA108", "error", "all train examples are of one class", evidence={"class_counts": train})
    lacking = [names[i] for i, (t, v) in enumerate(zip(train, val, strict=True)) if v and not t]
    if not lacking:
        return None
    title = f"{len(lacking)} classes of val have no train example: {', '.join(lacking[:5])}"
    return found("DA108", "warn", title, evidence={"lacking": lacking})


@rule(
    "DA109",
    "unnormalised-input",
    "check-init",
    meaning="The inputs are far from zero mean and unit scale, and the model feels it.",
    detected=(
        "Mean and standard deviation per channel or column of a batch as the model gets it; and the fresh model's "
        "outputs vary over the examples at least 3 times more, or less, than on the same batch standardised."
    ),
    why=(
        "Weights are initialised for inputs of unit scale: otherwise units saturate or die, or the useful "
        "rate moves by decades."
    ),
    fix='Set data.normalize = "standardize".',
    confused_with=(
        "A model whose first layer normalises; inputs in [0, 1]; statistics of another data set that are off by little."
    ),
    source="CS231n notes, data preprocessing; 37 reasons",
)
def unnormalised_input(evidence: Mapping[str, Any]) -> Finding | None:
    """Inputs on a scale that the initialisation is not made for."""
    scale = evidence.get("input_scale")
    if not scale or "skipped" in scale:
        raise Missing((scale or {}).get("skipped", "the scale of the inputs was not measured"))
    ratio, spreads = scale["spread_ratio"], [std for std in scale["std"] if std is not None and std > 0]
    if ratio is None or not spreads:
        raise Missing("the outputs do not vary, so the effect of the scale cannot be told")
    offset = max(abs(mean) for mean in scale["mean"])
    large = max(spreads) > 5 or offset > 10
    small = max(spreads) < 0.05
    if not ((large and ratio > 3) or (small and ratio < 1 / 3)):
        return None
    kind = "large" if large else "small"
    title = (
        f"inputs are on a {kind} scale (standard deviation up to {max(spreads):.3g}, mean up to {offset:.3g}): "
        f"the outputs vary {ratio:.3g} times as much as on standardised inputs"
    )
    change = Change("data.normalize", evidence.get("recipe", {}).get("data", {}).get("normalize"), "standardize", title)
    return found("DA109", "warn", title, evidence={**scale}, confidence=0.9, changes=[change])
