"""Rules of step 6 over the winner's answers: what is wrong with the labels or with a split. Codes CU64x."""

from __future__ import annotations

from dataclasses import asdict

from tuner.checks.cards import Missing, found, need, rule
from tuner.checks.curves.evidence import Curves
from tuner.checks.limits import Limit
from tuner.checks.val_predictions.evidence import ValPredictions
from tuner.core.result import Finding
from tuner.core.statistics import auroc_error, wilson

WRONG = Limit("wrong", 20, "wrong answers", "derived: fewer say nothing of sureness")
SHARE_WRONG = Limit("share wrong", 0.05, "of the answers", "derived: a few wrong ones are the hard ones")
TOLD_APART = Limit(
    "surer", 0.65, "area under the ROC curve", "zoo: with sound labels right answers are surer in more pairs"
)
ABOVE = Limit("above", 0.1, "accuracy above the majority class", "derived: a model that has learnt something")
FEW = Limit("few", 10, "examples of a class", "derived: a recall of fewer says little")
RARE = Limit("rare", 0.5, "times the mean share of a class", "derived: half of what an even split gives")
ELSEWHERE = Limit("elsewhere", 0.1, "accuracy", "zoo: averaged weights and views differ by less")


@rule(
    "CU640",
    "label-noise",
    "diagnose",
    meaning="The model is as sure of its wrong answers as of its right ones: many of these labels may be wrong.",
    detected="right and wrong answers on val (else on the train subset, before it is learnt by heart) are compared "
    f"in pairs: in less than {TOLD_APART:.0%} of them the right one is the surer, at the upper end of the 95 % "
    f"interval; at least {WRONG:g} wrong answers, {SHARE_WRONG:.0%} of all, and accuracy {ABOVE:.0%} above the "
    "majority class",
    why="No model can learn a wrong label but by heart: it caps the accuracy, and what is tuned then is memory.",
    fix="Look at the examples that are answered wrongly with the highest confidence, and fix their labels.",
    confused_with="ambiguous classes, where a model is less sure where it is wrong; a model that has learnt nothing",
    source="Northcutt et al. 2021, Confident learning: confident disagreement with the given label",
)
def sure_of_wrong_answers(predictions: ValPredictions, curves: Curves) -> Finding | None:
    answers = need(predictions.answers, "the winner's answers were not compared example by example")
    share = need(curves.majority_share, "the share of the majority class is not known")
    few = True
    for split in ("val", "train"):
        if split not in answers:
            continue
        seen = answers[split]
        right, wrong = seen.right, seen.wrong
        if wrong < WRONG or not right or wrong < SHARE_WRONG * (right + wrong):
            continue
        few = False
        highest = (seen.auroc or 0.0) + 2 * auroc_error(right, wrong)
        if right / (right + wrong) <= share + ABOVE or highest >= TOLD_APART:
            continue
        title = (
            f"{wrong} of {right + wrong} {split} answers are wrong, as sure as the right ones "
            f"({seen.sure_when_wrong:.2f} against {seen.sure_when_right:.2f}): labels may be wrong"
        )
        return found("CU640", "note", title, evidence={"split": split, **asdict(seen)})
    if few:
        raise Missing(f"fewer than {WRONG} wrong answers")
    return None


@rule(
    "CU641",
    "class-imbalance",
    "diagnose",
    meaning="Rare classes are never answered right: accuracy hides them.",
    detected=f"a class with less than {RARE:g} times the mean share, and at least {FEW:g} val examples, has a recall "
    "of 0",
    why="A model that leaves out rare classes loses little accuracy and all of its use for them.",
    fix="Weight the loss by inverse frequency, sample classes evenly, and monitor a balanced metric (train.metric).",
    confused_with="a few examples of a hard class; unequal classes that are answered well",
    source="SageMaker Debugger ClassImbalance; project's collection of diagnoses, D29 and L19",
)
def rare_classes_missed(predictions: ValPredictions) -> Finding | None:
    recall = need(predictions.recall, "the winner's answers were not counted by class")
    counts = need(predictions.class_counts, "the classes of val were not counted")
    mean = sum(counts) / max(1, len(counts))
    missed = [i for i, (r, n) in enumerate(zip(recall, counts, strict=False)) if r == 0 and FEW <= n < RARE * mean]
    if not missed:
        return None
    examples = sum(counts[i] for i in missed)
    title = f"{len(missed)} rare class{'es' * (len(missed) > 1)} of val ({examples} examples) never answered right"
    seen = {"classes": missed, "examples": examples, "largest_class": max(counts)}
    return found("CU641", "warn", title, evidence=seen)


@rule(
    "CU644",
    "metric-wrong",
    "diagnose",
    meaning="The recipe's evaluate reports far less than the trained model gets right on the same examples.",
    detected="the val accuracy that evaluate reports at the best epoch, against the answers of that epoch's weights "
    "in eval mode, counted example by example: lower than these, and than the mean recall of the classes, by "
    f"{ELSEWHERE:.0%} and beyond sampling",
    why="What is evaluated is not what was trained: the search chooses by another model, or by another number.",
    fix="Look at which weights evaluate uses: an average (EMA) that moves too slowly for the run (decay 0.999 needs "
    "thousands of updates; warm it up), an old copy, a checkpoint; then at how it counts.",
    confused_with="averaged weights and views of an example, which differ by a few points or gain",
    source="Karpathy, a recipe: evaluate the whole of val by one's own code; Tarvainen and Valpola 2017 (EMA warm-up)",
)
def evaluates_something_else(predictions: ValPredictions, curves: Curves) -> Finding | None:
    answers = need(predictions.answers, "the winner's answers were not compared example by example")
    reported = need(curves.val_accuracy, "the winner has no val accuracy")
    if not need(curves.own_evaluate, "whether the recipe has an evaluate of its own is not known"):
        return None  # tuner's own is what the answers are counted with
    if "val" not in answers:
        raise Missing("the winner's answers on val were not counted")
    right, wrong = answers["val"].right, answers["val"].wrong
    counted = right / (right + wrong)
    recalls = [recall for recall in predictions.recall or [] if recall is not None]
    least = min([counted, *([sum(recalls) / len(recalls)] if recalls else [])])
    if least - reported <= ELSEWHERE or wilson(least, right + wrong)[0] <= reported:
        return None
    title = f"evaluate reports {reported:.3f} on val, where the trained model itself gets {counted:.3f} right"
    seen = {"reported": reported, "counted": counted, "n": right + wrong}
    return found("CU644", "warn", title, evidence=seen)
