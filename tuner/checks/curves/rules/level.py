"""Rules of step 6 over the winner's answers: what is wrong with the labels or with a split. Codes CU64x."""

from __future__ import annotations

from typing import Any

from tuner.checks.baseline import (
    CONTRADICTS,
    EVEN,
    HIDES,
    SMALL_HALF_WIDTH,
    SURE_HALF_WIDTH,
    TOLD,
    AtBaseline,
    baseline,
    ranks_apart,
    small_split,
    tells_apart,
)
from tuner.checks.cards import found, need, rule
from tuner.checks.curves.evidence import Curves
from tuner.checks.limits import Limit
from tuner.checks.val_predictions.evidence import ValPredictions
from tuner.core.result import Finding
from tuner.core.statistics import wilson

LEARNT = Limit("learnt", 0.2, "accuracy above the majority class", "derived: what is learnt by heart is far above")


@rule(
    "CU642",
    "misaligned-labels",
    "diagnose",
    meaning="Train is learnt by heart and nothing carries over, to val or to train examples not seen before.",
    detected=f"train accuracy {LEARNT:.0%} above the majority class, val not above it, and neither the accuracy over "
    "the batches of the first epoch, which are new to the model as well",
    why="Labels that do not belong to their inputs can be memorised; there is nothing else to learn.",
    fix="Pair inputs and labels by a key: look for a shuffle or sort of one of them, and for globs in different order.",
    confused_with="a val split that is broken while train is sound: there, the first epoch learns",
    source="Zhang et al. 2017, rethinking generalization: random labels are fitted",
)
def only_memorised(curves: Curves) -> Finding | None:
    facts = _learnt_but_not_val(curves)
    if facts is None or facts["first_epoch_learns"]:
        return None
    title = (
        f"train is learnt by heart ({facts['train_accuracy']:.3f}), val stays at the majority class "
        f"({facts['val_accuracy']:.3f}), and so did the first epoch ({facts['first_epoch']:.3f})"
    )
    return found("CU642", "error", title, evidence=facts)


@rule(
    "CU643",
    "train-val-shift",
    "diagnose",
    meaning="What is learnt carries over to new train examples, and not at all to val.",
    detected=f"train accuracy {LEARNT:.0%} above the majority class, val not above it, while the batches of the first "
    "epoch, new to the model, were answered above it",
    why="Train is sound, so val is not: other labels, another class map, another normalisation, or another world.",
    fix="Compare the labels and statistics of val with those of train; pass train images through the val pipeline.",
    confused_with="labels that are misaligned everywhere, where the first epoch learns nothing",
    source="project's collection of diagnoses, D14 and D27",
)
def val_is_another_world(curves: Curves) -> Finding | None:
    facts = _learnt_but_not_val(curves)
    if facts is None or not facts["first_epoch_learns"]:
        return None
    title = (
        f"new train examples were answered in the first epoch ({facts['first_epoch']:.3f}), val never is "
        f"({facts['val_accuracy']:.3f}, the majority class {facts['majority_share']:.3f})"
    )
    return found("CU643", "error", title, evidence=facts)


def _learnt_but_not_val(curves: Curves) -> dict[str, Any] | None:
    """Return the facts where train is learnt and val is at its baseline."""
    train = need(curves.train_accuracies, "no train subset was measured")
    val = need(curves.val_accuracies, "the winner has no val accuracy")
    running = need(curves.running_accuracies, "accuracy was not measured while training")
    n = need(curves.val_n, "the size of val is not known")
    share = need(curves.majority_share, "the share of the majority class is not known")
    # the last epoch: a score that never rises above chance is best wherever chance was kindest
    if wilson(train[-1], n)[0] <= share + LEARNT or wilson(max(val[-1], 0.0), n)[0] > share:
        return None
    return {
        "train_accuracy": train[-1],
        "val_accuracy": val[-1],
        "majority_share": share,
        "first_epoch": running[0],
        "first_epoch_learns": wilson(running[0], n)[0] > share,
    }


ACCURACY = "val_accuracy"
EASIER = Limit("easier", 0.02, "accuracy", "zoo: easier val splits of sound programs gain less")


@rule(
    "CU606",
    "at-baseline",
    "diagnose",
    meaning="The winner is no better than always answering the majority class.",
    detected="the 95 % interval (Wilson) of its val accuracy reaches down to the majority class's share of val; an "
    f"error where the interval is narrower than {SURE_HALF_WIDTH:.0%} either way, else a warning",
    why="No curve of such a model says anything about tuning.",
    fix="Stop tuning: go back to steps 1 and 2 and look at labels, loader and normalisation.",
    confused_with="strongly unbalanced classes, where accuracy is the wrong measure: set train.monitor or train.metric",
    source="Karpathy, a recipe for training neural networks: the input-independent baseline",
)
def at_baseline(curves: Curves, predictions: ValPredictions | None) -> Finding | None:
    return baseline("CU606", "ignores", _seen(curves), _told(curves, predictions))


@rule(
    "CU647",
    "metric-wrong",
    "diagnose",
    detected=f"accuracy as in CU606, no class has more than {EVEN:.0%} of val, and the mean recall is above chance by "
    f"{TOLD:g} standard errors",
    **CONTRADICTS,
)
def metric_contradicts(curves: Curves, predictions: ValPredictions | None) -> Finding | None:
    return baseline("CU647", "contradicts", _seen(curves), _told(curves, predictions))


@rule(
    "CU646",
    "class-imbalance",
    "diagnose",
    detected=f"accuracy as in CU606, one class has more than {EVEN:.0%} of val, and the mean recall, or how well a "
    f"class's examples are ranked before the others (area under the ROC curve), is above chance by {TOLD:g} standard "
    "errors",
    **HIDES,
)
def majority_hides_it(curves: Curves, predictions: ValPredictions | None) -> Finding | None:
    return baseline("CU646", "hides", _seen(curves), _told(curves, predictions), curves.monitor == ACCURACY)


@rule(
    "CU609",
    "val-too-small",
    "diagnose",
    meaning="The val split is too small for the differences that tuning is about.",
    detected=f"half the width of the 95 % interval (Wilson) of val accuracy > {SMALL_HALF_WIDTH:.1%}",
    why="Whether a change of a point helped cannot be seen.",
    fix="Set a larger data.val_fraction, or several seeds per configuration.",
    confused_with="noise of the training itself",
    source="Karpathy, a recipe: add significant digits to your eval; Google tuning playbook",
)
def val_too_small(curves: Curves) -> Finding | None:
    accuracy = need(curves.val_accuracy, "the winner has no val accuracy")
    n = need(curves.val_n, "the size of val is not known")
    return small_split("CU609", "val", accuracy, n)


@rule(
    "CU610",
    "train-val-shift",
    "diagnose",
    meaning="Val accuracy is clearly above train accuracy, though both are measured alike.",
    detected="the 95 % interval of train minus val (train subset, eval mode, no augmentation) lies below "
    f"{-EASIER:.0%}",
    why="Val should not be easier than what was trained on: its examples, or its pipeline, differ.",
    fix="Compare the classes and sources of train and val; look for label noise that only train has.",
    confused_with="train measured with augmentation or dropout, which is excluded here",
    source="UMLAUT: val above train; Google tuning playbook",
)
def val_above_train(curves: Curves) -> Finding | None:
    low, high = need(curves.gap_interval, "no train subset, or the size of val is not known")
    if high >= -EASIER:
        return None
    title = f"val is {-100 * (curves.gap or 0.0):.1f} points above train ({-100 * high:.1f} to {-100 * low:.1f})"
    return found("CU610", "warn", title, evidence={"gap": curves.gap, "interval": [low, high]})


def _told(curves: Curves, predictions: ValPredictions | None) -> str | None:
    """Say what in the winner's answers shows that it tells classes apart, if something does.

    Ranks count where one class has most of val alone: there a sound model may answer it everywhere.
    """
    if predictions is None:
        return None
    counts = predictions.class_counts or ()
    told = tells_apart(predictions.recall or (), counts)
    if told is None and (curves.majority_share or 0.0) > EVEN:
        return ranks_apart(predictions.areas or (), counts)
    return told


def _seen(curves: Curves) -> AtBaseline:
    accuracy = need(curves.val_accuracy, "the winner has no val accuracy")
    n = need(curves.val_n, "the size of val is not known")
    return AtBaseline(accuracy, n, need(curves.majority_share, "the share of the majority class is not known"))
