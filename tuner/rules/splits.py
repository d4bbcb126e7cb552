"""Rules over train against val, and over labels against inputs, asked of the data alone (check-init): codes DA11x."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tuner.core.result import Finding, Severity
from tuner.core.statistics import auroc_error, wilson
from tuner.rules import Missing, found, rule
from tuner.rules.init import number, probe

SURE = 6.0  # standard errors: one shift by chance in 1e9 comparisons
SHIFTED = 0.5  # of the spread over examples
SHIFTED_AUGMENTED = 1.0  # where the user's own Dataset augments train
COLUMNS = 0.3  # share of a table's columns; single ones move in time without harm
TOLD_APART = 0.7  # area under the ROC curve; random splits give 0.5 +- 0.01
NEAR_SHARE = 0.05  # CIFAR-10 itself has 3 % (Barz and Denzler 2020)
SOME_NEAR = 0.01
NEAR_DIMENSION = 4.0
MISSED = 0.25  # val below train by this much, though every train example was judged by the others
NEIGHBOURS = 0.15  # by which the labels of the next row fit better than an input's own
LEAK = 0.97
DECISIVE = 0.1  # how much better than the next column that does not go with it
RELABELLED = 0.02
LABEL_DISTANCE = 0.5


@rule(
    "DA110",
    "train-val-shift",
    "check-init",
    meaning="Train and val images, or rows, look different once both have been through the val pipeline.",
    detected=(
        "Up to 1000 examples of each split: means and spreads per channel or column, a difference of half the spread "
        "over examples at 6 standard errors; or a linear classifier on small pictures that tells the splits apart "
        "(area under its ROC curve above 0.7)."
    ),
    why="Val then measures something else than what was learned: it is bad from the first epoch on, whatever is tuned.",
    fix="Share one pipeline (decoding, channel order, mean and std) between the splits, and draw them at random.",
    confused_with=(
        "Augmentation of train, which is left out, or given twice the room where the Dataset does it itself; small "
        "splits, which the standard errors allow for; a split by time or by group that is meant."
    ),
    source="deepchecks ImagePropertyDrift and ImageDatasetDrift; 37 reasons",
)
def splits_differ(evidence: Mapping[str, Any]) -> Finding | None:
    """Train and val that do not look alike."""
    answer = probe(evidence, "splits_compared")
    room = SHIFTED_AUGMENTED if answer["augmented_by_itself"] else SHIFTED
    shifted = [index for index, entry in enumerate(answer["shifts"]) if _is_shifted(entry, room)]
    apart = number(answer["separability"])
    facts = {key: answer[key] for key in ("train", "val", "separability")}
    if shifted:
        worst = max((answer["shifts"][index] for index in shifted), key=lambda entry: abs(entry["mean"]))
        facts |= {"shifted": shifted[:20], "worst": worst}
        what = "channels" if answer["is_image"] else "columns"
        title = (
            f"{len(shifted)} of {len(answer['shifts'])} {what} differ between train and val, the worst by "
            f"{abs(worst['mean']):.2g} of its spread"
        )
        few = not answer["is_image"] and len(shifted) < COLUMNS * len(answer["shifts"])
        return found("DA110", "note" if few else "warn", title, evidence=facts, confidence=0.9)
    least = max(TOLD_APART, 0.5 + SURE * auroc_error(answer["train"], answer["val"]))
    if answer["is_image"] and apart is not None and apart > least:
        title = f"a linear classifier tells train from val images (area under its ROC curve {apart:.2f}, chance 0.5)"
        return found("DA110", "warn", title, evidence=facts, confidence=0.8)
    return None


def _is_shifted(entry: Mapping[str, float], room: float) -> bool:
    pairs = (("mean", "z"), ("within", "within_z"))
    return any(abs(entry[size]) > room and abs(entry[z]) > SURE for size, z in pairs)


@rule(
    "DA111",
    "train-val-overlap",
    "check-init",
    meaning="Images of val are nearly the same as images of train.",
    detected=(
        "Small pictures of 600 val images against those of train: the nearest is four times nearer than the tenth "
        "nearest, and than images are apart. In data of as many dimensions as these fill, that is rare by chance; 5 % "
        "of val must do it (1 % for a note), at least five times what chance gives, with the same labels."
    ),
    why="Val measures memory: copies, frames of one film and pictures of one patient are no new examples.",
    fix="Split by group (film, patient, scene), or remove the copies before splitting.",
    confused_with="Simple images such as digits, which lie near each other by nature: there the tenth is as near.",
    source="deepchecks SimilarImageLeakage; Barz and Denzler 2020; Levina and Bickel 2004",
)
def nearly_the_same(evidence: Mapping[str, Any]) -> Finding | None:
    """Near copies across the splits."""
    answer = probe(evidence, "near_copies")
    if answer["dimension"] < NEAR_DIMENSION:
        raise Missing(f"the images fill {answer['dimension']:.1f} dimensions only, so near ones are no copies")
    if answer["near"] < 5 or answer["share"] < SOME_NEAR or answer["near"] < 5 * answer["expected"]:
        return None
    if (answer["agreeing"] or 0.0) < 0.9:
        return None
    first, second = answer["first"]
    title = f"{answer['share']:.0%} of the val images are nearly those of train, such as {second} and {first}"
    severity: Severity = "warn" if answer["share"] > NEAR_SHARE else "note"
    return found("DA111", severity, title, evidence=dict(answer), confidence=0.85)


@rule(
    "DA112",
    "train-val-shift",
    "check-init",
    meaning="Val's labels do not go with its inputs as those of train do.",
    detected=(
        "A kernel classifier on small pictures of the inputs: every train example is judged by the others, every val "
        "example by train. Val is 25 points worse, at 6 standard errors; where renaming its answers class by class "
        "mends that, the classes are numbered differently."
    ),
    why="The val accuracy is wrong by that much, whatever is learned.",
    fix="Build one map from class names to numbers, on train, and use it for val; pair inputs and labels by key.",
    confused_with="Copies within train, which judge each other: examples that are equal count once here.",
    source="derived: an independent classifier has to generalise to val as it does within train",
)
def val_labels_do_not_fit(evidence: Mapping[str, Any]) -> Finding | None:
    """Val labels that contradict train."""
    answer = probe(evidence, "labels_fit")
    if "val" not in answer:
        raise Missing("there is no val split to compare with")
    _read_twice_alike(evidence)
    train, val, n, val_n = answer["train"], answer["val"], answer["n"], answer["val_n"]
    error = math.sqrt(0.25 / n + 0.25 / max(val_n, 1))
    if train - val <= max(MISSED, SURE * error):
        return None
    renamed = answer["val_renamed"] - val > 0.5 * (train - val) and answer["val_renamed"] > 1.5 * answer["val_chance"]
    how = (
        "its classes are numbered in another order" if renamed else "its labels, or its inputs, are not those of train"
    )
    title = f"what train says about labels is right for {val:.0%} of val and {train:.0%} of train: {how}"
    return found("DA112", "warn", title, evidence=dict(answer), confidence=0.9)


def _read_twice_alike(evidence: Mapping[str, Any]) -> None:
    if (number((evidence.get("label_order") or {}).get("relabelled")) or 0) > 0:
        raise Missing("examples change their labels from one reading to the next")


@rule(
    "DA113",
    "misaligned-labels",
    "check-init",
    meaning="The labels of train seem to have nothing to do with the inputs.",
    detected=(
        "A kernel classifier on small pictures, each example judged by the others, is right no more often than on "
        "labels in a random order, though there are examples enough to see a few points; or it is right clearly more "
        "often (15 points, 6 standard errors) about the labels of the images before, or after, as they are stored."
    ),
    why="A model can memorise such labels, and step 2 passes; nothing carries over to val.",
    fix="Look at some examples with their labels; sort file lists as numbers, shuffle pairs, join tables by key.",
    confused_with="A hard task whose signal needs more than small pictures: then coarse rises above its baseline.",
    source="Karpathy, A Recipe for Training Neural Networks; 37 reasons (shuffle labels and inputs together)",
)
def labels_unrelated(evidence: Mapping[str, Any]) -> Finding | None:
    """Labels that the inputs say nothing about, or that are the neighbour's."""
    _read_twice_alike(evidence)
    if (neighbour := _shifted(evidence)) is not None:
        return neighbour
    answer = probe(evidence, "labels_fit")
    kind = str((evidence.get("data_scan") or {}).get("train", {}).get("dtype", ""))
    if kind.startswith("int"):
        raise Missing("the inputs are whole numbers, such as words by number: the classifier reads sizes")
    if answer["n"] < 200:
        raise Missing(f"only {answer['n']} different train examples: chance cannot be told from a weak signal")
    if answer["chance"] > 0.8:
        raise Missing("one class has most of the examples")
    if answer["train"] - answer["shuffled"] > 3 * max(answer["shuffled_std"], 1e-9):
        return None
    if "val" in answer and wilson(answer["val"], answer["val_n"])[0] > answer["val_chance"]:
        return None
    title = (
        f"a classifier on the inputs is right about {answer['train']:.1%} of train; on labels in a random order it is "
        f"right about {answer['shuffled']:.1%}"
    )
    return found("DA113", "warn", title, evidence=dict(answer), confidence=0.7)


def _shifted(evidence: Mapping[str, Any]) -> Finding | None:
    """Find labels that lie one row off."""
    answer = evidence.get("labels_shifted") or {}
    own, others = number(answer.get("own")), [number(answer.get(side)) for side in ("before", "after")]
    if own is None or None in others:
        return None
    best = max(other for other in others if other is not None)
    if best - own <= max(NEIGHBOURS, SURE * math.sqrt(0.5 / answer["n"])):
        return None
    side = "before" if best == others[0] else "after"
    title = (
        f"the label of the example {side} fits an input better than its own: a classifier is right about {best:.0%} "
        f"in place of {own:.0%}"
    )
    remedy = "The labels lie one row off: look for a header that is read as a row, or a slice of one of the two."
    return found("DA113", "warn", title, evidence=dict(answer), remedy=remedy, confidence=0.95)


@rule(
    "DA114",
    "target-leak",
    "check-init",
    meaning="One single column, or pixel, gives the label away.",
    detected=(
        "For each column the commonest class in each of 64 bins, made on one half of train and judged on the other: "
        "97 % right, and 10 points better than the best column that does not go with it."
    ),
    why="Such a column is often known only after the label (a result, a number given by outcome): it will be missing.",
    fix="Ask where the column comes from. If it is not known at the time of prediction, drop it.",
    confused_with="A decisive measurement, which is fine: then accept the code.",
    source="deepchecks SimpleFeatureContribution; Perlich et al. 2008; cleanlab spurious_correlations",
)
def feature_gives_label_away(evidence: Mapping[str, Any]) -> Finding | None:
    """A column that is the label."""
    answer = probe(evidence, "single_features")
    low, _ = wilson(answer["best"], answer["n"])
    if answer["best"] < LEAK or low < 0.9 or answer["chance"] > 0.9 or answer["features"] < 2:
        return None
    if answer["best"] - answer["second"] < min(DECISIVE, 0.8 * (1 - answer["second"])):
        return None
    title = f"{answer['name']} alone gives the label of {answer['best']:.1%} of the examples"
    return found("DA114", "warn", title, evidence=dict(answer), confidence=0.6)


@rule(
    "DA115",
    "unshuffled-data",
    "check-init",
    meaning="The order or the choice of the examples is not what training asks for.",
    detected=(
        "The labels of the first batches of an epoch have less entropy than batches drawn at random, by 6 standard "
        "errors and a tenth; or examples come with another label when they are asked for by the same index again."
    ),
    why="Batches of one class pull the model to and fro; it ends where the last ones left it.",
    fix="Let __getitem__ read the example of its index, without state; give a map-style Dataset in any order.",
    confused_with="Few examples per batch, which chance allows for; over-sampling of rare classes.",
    source="37 reasons; cleanlab non_iid; Full Stack Deep Learning",
)
def batches_not_mixed(evidence: Mapping[str, Any]) -> Finding | None:
    """Batches of few classes, or a Dataset that ignores its index."""
    answer = probe(evidence, "label_order")
    z = number(answer["z"])
    if z is not None and z < -SURE and answer["entropy"] < 0.9 * answer["expected"]:
        title = (
            f"the labels of a batch have an entropy of {answer['entropy']:.2f} on average, of batches drawn at random "
            f"{answer['expected']:.2f}: training gets them in an order"
        )
        return found("DA115", "error" if z < -2 * SURE else "warn", title, evidence=dict(answer))
    if answer["relabelled"] > RELABELLED * answer["asked"]:
        title = (
            f"{answer['relabelled']} of {answer['asked']} examples have another label when read again by their index"
        )
        return found("DA115", "error", title, evidence=dict(answer), confidence=0.95)
    return None


@rule(
    "DA116",
    "too-little-data",
    "check-init",
    meaning="Train has far fewer examples than val, or only a handful per class.",
    detected="The sizes of the splits: train below half of val; or fewer than 10 examples per class on average.",
    why="A subset that was left in from debugging gives a model that can only memorise.",
    fix="Look for a slice, a limit or a fraction in the loading of train.",
    confused_with="Learning from few examples on purpose.",
    source="37 reasons: is there enough data; checklist, step 2",
)
def train_is_small(evidence: Mapping[str, Any]) -> Finding | None:
    """A train split that is suspiciously small."""
    scan = probe(evidence, "data_scan")
    n, val = scan["train"]["n"], scan.get("val", {}).get("n", 0)
    facts = {"train": n, "val": val, "classes": scan["num_classes"]}
    if n < val / 2:
        title = f"train has {n} examples, val has {val}"
        return found("DA116", "warn", title, evidence=facts, confidence=0.6)
    if n < 10 * scan["num_classes"]:
        title = f"train has {n} examples for {scan['num_classes']} classes"
        return found("DA116", "note", title, evidence=facts, confidence=0.6)
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
def label_never_used(evidence: Mapping[str, Any]) -> Finding | None:
    """Labels that nobody has."""
    scan = probe(evidence, "data_scan")
    counts = [scan[split]["class_counts"] for split in ("train", "val") if split in scan]
    unused = [label for label in range(scan["num_classes"]) if all(label >= len(c) or not c[label] for c in counts)]
    if not unused:
        return None
    shown = ", ".join(map(str, unused[:5])) + (" ..." if len(unused) > 5 else "")
    hint = ": do the labels start at 1?" if unused == [0] else ""
    title = f"no example of train or val has the label {shown}{hint}"
    return found("DA117", "note", title, evidence={"unused": unused[:100], "num_classes": scan["num_classes"]})


@rule(
    "DA118",
    "train-val-shift",
    "check-init",
    meaning="The classes have other shares in val than in train.",
    detected=(
        "Half the summed difference of the class shares; a warning above one half, where chi-squared says that it is "
        "no chance, a note above a fifth."
    ),
    why="Val weighs the classes differently from what is learned, and may lack some of them.",
    fix="Draw the splits at random, stratified by class.",
    confused_with="A balanced val beside an unbalanced train, on purpose.",
    source="deepchecks LabelDrift",
)
def class_shares_differ(evidence: Mapping[str, Any]) -> Finding | None:
    """Val that is made of other classes."""
    answer = probe(evidence, "class_shares")
    distance = answer["distance"]
    if answer["p"] > 1e-9 or distance < 0.2:
        return None
    title = f"the class shares of val differ from those of train by {distance:.0%}"
    severity: Severity = "warn" if distance > LABEL_DISTANCE else "note"
    return found("DA118", severity, title, evidence=dict(answer), confidence=0.9)
