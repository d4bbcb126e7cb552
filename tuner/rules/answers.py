"""Rules of step 6 over the winner's answers: what is wrong with the labels or with a split. Codes CU64x."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.core.result import Finding
from tuner.core.statistics import auroc_error, wilson
from tuner.rules import Missing, found, need, rule

WRONG = 20  # wrong answers below which nothing is known about them
SHARE_WRONG = 0.05
TOLD_APART = 0.65  # right answers are surer than wrong ones in this share of pairs, with any sound labels
ABOVE = 0.1  # accuracy above the commonest class at which a model has learnt something
FEW = 10  # examples of a class below which its recall says little
RARE = 0.5  # times the mean share of a class
LEARNT = 0.2
ELSEWHERE = 0.1  # accuracy: averaged weights and views of an example differ by less


@rule(
    "CU640",
    "label-noise",
    "diagnose",
    meaning="The model is as sure of its wrong answers as of its right ones: many of these labels may be wrong.",
    detected="right and wrong answers on val (else on the train subset, before it is learnt by heart) are compared in "
    "pairs: in less than 65 % of them the right one is the surer, at the upper end of the 95 % interval; at least 20 "
    "wrong answers, 5 % of all, and accuracy 10 points above the commonest class",
    why="No model can learn a wrong label but by heart: it caps the accuracy, and what is tuned then is memory.",
    fix="Look at the examples that are answered wrongly with the highest confidence, and mend their labels.",
    confused_with="ambiguous classes, where a model is less sure where it is wrong; a model that has learnt nothing",
    source="Northcutt et al. 2021, Confident learning: confident disagreement with the given label",
)
def sure_of_wrong_answers(evidence: Mapping[str, Any]) -> Finding | None:
    answers = need(evidence, "answers", "the winner's answers were not compared example by example")
    share = need(evidence, "majority_share", "the share of the commonest class is not known")
    few = True
    for split in ("val", "train"):
        if split not in answers:
            continue
        seen = answers[split]
        right, wrong = seen["right"], seen["wrong"]
        if wrong < WRONG or not right or wrong < SHARE_WRONG * (right + wrong):
            continue
        few = False
        highest = seen["auroc"] + 2 * auroc_error(right, wrong)
        if right / (right + wrong) <= share + ABOVE or highest >= TOLD_APART:
            continue
        title = (
            f"{wrong} of {right + wrong} {split} answers are wrong, as sure as the right ones "
            f"({seen['sure_when_wrong']:.2f} against {seen['sure_when_right']:.2f}): labels may be wrong"
        )
        return found("CU640", "note", title, evidence={"split": split, **seen}, confidence=0.75)
    if few:
        raise Missing(f"fewer than {WRONG} wrong answers")
    return None


@rule(
    "CU641",
    "class-imbalance",
    "diagnose",
    meaning="Rare classes are never answered right: accuracy hides them.",
    detected="a class with less than half of the mean share, and at least 10 val examples, has a recall of 0",
    why="A model that leaves out rare classes loses little accuracy and all of its use for them.",
    fix="Weight the loss by inverse frequency, sample classes evenly, and monitor a balanced metric (train.metric).",
    confused_with="a few examples of a hard class; unequal classes that are answered well",
    source="SageMaker Debugger ClassImbalance; project's collection of diagnoses, D29 and L19",
)
def rare_classes_missed(evidence: Mapping[str, Any]) -> Finding | None:
    recall = need(evidence, "recall", "the winner's answers were not counted by class")
    counts = need(evidence, "class_counts", "the classes of val were not counted")
    mean = sum(counts) / max(1, len(counts))
    missed = [i for i, (r, n) in enumerate(zip(recall, counts, strict=False)) if r == 0 and FEW <= n < RARE * mean]
    if not missed:
        return None
    examples = sum(counts[i] for i in missed)
    title = f"{len(missed)} rare class{'es' * (len(missed) > 1)} of val ({examples} examples) never answered right"
    seen = {"classes": missed, "examples": examples, "largest_class": max(counts)}
    return found("CU641", "warn", title, evidence=seen, confidence=0.85)


@rule(
    "CU642",
    "misaligned-labels",
    "diagnose",
    meaning="Train is learnt by heart and nothing carries over, to val or to train examples not seen before.",
    detected="train accuracy 20 points above the commonest class, val not above it, and neither the accuracy over the "
    "batches of the first epoch, which are new to the model as well",
    why="Labels that do not belong to their inputs can be memorised; there is nothing else to learn.",
    fix="Pair inputs and labels by a key: look for a shuffle or sort of one of them, and for globs in different order.",
    confused_with="a val split that is broken while train is sound: there, the first epoch learns",
    source="Zhang et al. 2017, rethinking generalization: random labels are fitted",
)
def only_memorised(evidence: Mapping[str, Any]) -> Finding | None:
    facts = _learnt_but_not_val(evidence)
    if facts is None or facts["first_epoch_learns"]:
        return None
    title = (
        f"train is learnt by heart ({facts['train_accuracy']:.3f}), val stays at the commonest class "
        f"({facts['val_accuracy']:.3f}), and so did the first epoch ({facts['first_epoch']:.3f})"
    )
    return found("CU642", "error", title, evidence=facts, confidence=0.97)


@rule(
    "CU643",
    "train-val-shift",
    "diagnose",
    meaning="What is learnt carries over to new train examples, and not at all to val.",
    detected="train accuracy 20 points above the commonest class, val not above it, while the batches of the first "
    "epoch, new to the model, were answered above it",
    why="Train is sound, so val is not: other labels, another class map, another normalisation, or another world.",
    fix="Compare the labels and statistics of val with those of train; pass train images through the val pipeline.",
    confused_with="labels that are misaligned everywhere, where the first epoch learns nothing",
    source="project's collection of diagnoses, D14 and D27",
)
def val_is_another_world(evidence: Mapping[str, Any]) -> Finding | None:
    facts = _learnt_but_not_val(evidence)
    if facts is None or not facts["first_epoch_learns"]:
        return None
    title = (
        f"new train examples were answered in the first epoch ({facts['first_epoch']:.3f}), val never is "
        f"({facts['val_accuracy']:.3f}, the commonest class {facts['majority_share']:.3f})"
    )
    return found("CU643", "error", title, evidence=facts, confidence=0.96)


@rule(
    "CU644",
    "metric-wrong",
    "diagnose",
    meaning="The recipe's evaluate reports far less than the trained model gets right on the same examples.",
    detected="the val accuracy that evaluate reports at the best epoch, against the answers of that epoch's weights in "
    "eval mode, counted example by example: lower than these, and than the mean recall of the classes, by 10 points "
    "and beyond sampling",
    why="What is evaluated is not what was trained: the search chooses by another model, or by another number.",
    fix="Look at which weights evaluate uses: an average (EMA) that moves too slowly for the run (decay 0.999 needs "
    "thousands of updates; warm it up), an old copy, a checkpoint; then at how it counts.",
    confused_with="averaged weights and views of an example, which differ by a few points or gain",
    source="Karpathy, a recipe: evaluate the whole of val by one's own code; Tarvainen and Valpola 2017 (EMA warm-up)",
)
def evaluates_something_else(evidence: Mapping[str, Any]) -> Finding | None:
    answers = need(evidence, "answers", "the winner's answers were not compared example by example")
    reported = need(evidence, "val_accuracy", "the winner has no val accuracy")
    if not need(evidence, "own_evaluate", "whether the recipe has an evaluate of its own is not known"):
        return None  # tuner's own is what the answers are counted with
    if "val" not in answers:
        raise Missing("the winner's answers on val were not counted")
    right, wrong = answers["val"]["right"], answers["val"]["wrong"]
    counted = right / (right + wrong)
    recalls = [recall for recall in evidence.get("recall") or [] if recall is not None]
    least = min([counted, *([sum(recalls) / len(recalls)] if recalls else [])])
    if least - reported <= ELSEWHERE or wilson(least, right + wrong)[0] <= reported:
        return None
    title = f"evaluate reports {reported:.3f} on val, where the trained model itself gets {counted:.3f} right"
    seen = {"reported": reported, "counted": counted, "n": right + wrong}
    return found("CU644", "warn", title, evidence=seen, confidence=0.97)


def _learnt_but_not_val(evidence: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the facts where train is learnt and val is at its baseline."""
    train = need(evidence, "train_accuracies", "no train subset was measured")
    val = need(evidence, "val_accuracies", "the winner has no val accuracy")
    running = need(evidence, "running_accuracies", "accuracy was not measured while training")
    n = need(evidence, "val_n", "the size of val is not known")
    share = need(evidence, "majority_share", "the share of the commonest class is not known")
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
