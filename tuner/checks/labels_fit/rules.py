"""Rules over train against val, and over labels against inputs, asked of the data alone (check-init): codes DA11x."""

from __future__ import annotations

import math

from tuner.checks.cards import Missing, found, need, number, rule
from tuner.checks.data_scan.evidence import DataScan
from tuner.checks.label_order.evidence import LabelOrder
from tuner.checks.labels_fit.evidence import LabelsFit
from tuner.checks.labels_shifted.evidence import LabelsShifted
from tuner.checks.limits import SURE, Limit
from tuner.checks.relatives.evidence import Relatives
from tuner.core.result import Finding
from tuner.core.statistics import wilson

MISSED = Limit("missed", 0.25, "accuracy", "zoo: val of other people or days loses less")
NEIGHBOURS = Limit("neighbours", 0.15, "accuracy", "zoo: sorted sets give neighbours less")
UNLIKE = Limit("unlike", 0.1, "mean recall", "zoo: sound splits that were drawn at random are as hard as each other")
RELATIVES = Limit(
    "relatives", 0.01, "of train", source="zoo: sound splits without copies give less, patients' slices more"
)


@rule(
    "DA112",
    "train-val-shift",
    "check-init",
    meaning="Val's labels do not go with its inputs as those of train do.",
    detected="A kernel classifier on small pictures of the inputs: every train example is judged by the others, "
    f"every val example by train. Val is {MISSED:.0%} worse, at {SURE:g} standard errors; where renaming its answers "
    "class by class fixes that, the classes are numbered differently.",
    why="The val accuracy is wrong by that much, whatever is learned.",
    fix="Build one map from class names to numbers, on train, and use it for val; pair inputs and labels by key.",
    confused_with="Copies within train, which judge each other: examples that are equal count once here, and where "
    "train holds near-relatives of its own the rule is silent.",
    source="derived: an independent classifier has to generalise to val as it does within train",
    explained_by=("DA110", "DA115", "DA119"),
)
def val_labels_do_not_fit(answer: LabelsFit, order: LabelOrder | None, relatives: Relatives | None) -> Finding | None:
    if answer.val is None:
        raise Missing("there is no val split to compare with")
    _read_twice_alike(order)
    if relatives is not None and relatives.rare_in_train > RELATIVES:
        raise Missing(
            "train holds near-relatives of its own examples, which judge each other better than they judge val"
        )
    train, val, n, val_n = answer.train, answer.val, answer.n, answer.val_n
    error = math.sqrt(0.25 / n + 0.25 / max(val_n, 1))
    if train - val <= MISSED or train - val <= SURE * error:
        return None
    renamed = answer.val_renamed - val > 0.5 * (train - val) and answer.val_renamed > 1.5 * answer.val_chance
    how = (
        "its classes are numbered in another order" if renamed else "its labels, or its inputs, are not those of train"
    )
    title = f"what train says about labels is right for {val:.0%} of val and {train:.0%} of train: {how}"
    return found("DA112", "warn", title, evidence=answer.to_json())


def _read_twice_alike(order: LabelOrder | None) -> None:
    if order is not None and order.relabelled > 0:
        raise Missing("examples change their labels from one reading to the next")


@rule(
    "DA126",
    "label-noise",
    "check-init",
    meaning="The labels of train contradict one another where those of val do not.",
    detected="A kernel classifier on small pictures of the inputs, each example judged by the others of its own "
    f"split, from as many of every class: the mean recall within train is more than {UNLIKE:.0%} below that within "
    f"val, at {SURE:g} standard errors.",
    why="No model can learn a wrong label but by heart; val was labelled with more care, so it still tells the truth, "
    "and what train is missing is what the labels spoil.",
    fix="Look at train examples whose label is not that of their neighbours, class by class; label them again, or use "
    "a loss that bears noise.",
    confused_with="A train split of harder pictures than val (augmented copies, other sources): compare the pictures.",
    source="Northcutt et al. 2021, Confident learning: neighbours' labels out of sample",
    explained_by=("DA110", "DA113", "DA115", "DA119", "IN154"),
)
def train_labels_contradict(answer: LabelsFit, order: LabelOrder | None) -> Finding | None:
    _read_twice_alike(order)
    train, val = need(answer.recalls, "the classes are too small to judge each split by itself")
    error = math.sqrt(0.5 / max(min(answer.n, answer.val_n), 1))
    if val - train <= UNLIKE or val - train <= SURE * error:
        return None
    title = f"of the labels of train, {train:.0%} are what their neighbours say; of val's, {val:.0%}"
    return found("DA126", "warn", title, evidence={"recalls": [train, val], "n": answer.n, "val_n": answer.val_n})


@rule(
    "DA113",
    "misaligned-labels",
    "check-init",
    meaning="The labels of train seem to have nothing to do with the inputs.",
    detected="A kernel classifier on small pictures, and one on the strengths of frequencies, each example judged by "
    "the others, is right no more often than on labels in a random order, though there are examples enough to see a "
    "few points; or it is right clearly more "
    f"often ({NEIGHBOURS:.0%}, {SURE:g} standard errors) about the labels of the images before, or after, as they are "
    "stored.",
    why="A model can memorise such labels, and step 2 passes; nothing carries over to val.",
    fix="Look at some examples with their labels; sort file lists as numbers, shuffle pairs, join tables by key.",
    confused_with="A hard task whose signal needs more than small pictures: then coarse rises above its baseline.",
    source="Karpathy, A Recipe for Training Neural Networks; 37 reasons (shuffle labels and inputs together)",
    explained_by=("DA103", "DA112", "DA115", "DA119", "DA121", "IN126"),
)
def labels_unrelated(
    shifted: LabelsShifted | None, answer: LabelsFit | None, order: LabelOrder | None, scan: DataScan | None
) -> Finding | None:
    _read_twice_alike(order)
    if (neighbour := _shifted(shifted)) is not None:
        return neighbour
    if answer is None:
        raise Missing("how much the inputs say about the labels was not measured")
    if scan is not None and scan.train is not None and scan.train.dtype.startswith("int"):
        raise Missing("the inputs are whole numbers, such as words by number: the classifier reads sizes")
    if answer.n < 200:
        raise Missing(f"only {answer.n} different train examples: chance cannot be distinguished from a weak signal")
    if answer.chance > 0.8:
        raise Missing("one class has most of the examples")
    best = max(answer.train, answer.by_spectrum or 0.0)
    if best - (answer.shuffled or 0.0) > 3 * max(answer.shuffled_std or 0.0, 1e-9):
        return None
    if answer.val is not None and wilson(answer.val, answer.val_n)[0] > answer.val_chance:
        return None
    title = (
        f"a classifier on the inputs is right about {answer.train:.1%} of train; on labels in a random order it is "
        f"right about {answer.shuffled:.1%}"
    )
    return found("DA113", "warn", title, evidence=answer.to_json())


def _shifted(answer: LabelsShifted | None) -> Finding | None:
    """Find labels that lie one row off."""
    if answer is None:
        return None
    own, others = number(answer.own), [number(answer.before), number(answer.after)]
    if own is None or None in others:
        return None
    best = max(other for other in others if other is not None)
    if best - own <= max(NEIGHBOURS, SURE * math.sqrt(0.5 / answer.n)):
        return None
    side = "before" if best == others[0] else "after"
    title = (
        f"the label of the example {side} fits an input better than its own: a classifier is right about {best:.0%} "
        f"in place of {own:.0%}"
    )
    remedy = "The labels lie one row off: look for a header that is read as a row, or a slice of one of the two."
    return found("DA113", "warn", title, evidence=answer.to_json(), remedy=remedy)
