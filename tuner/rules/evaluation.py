"""Rules about the measure itself: of step 6 (baseline, size of val, val against train) and of the test at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tuner.core.result import Finding, Severity
from tuner.core.statistics import difference_interval, wilson, wilson_half
from tuner.rules import Missing, found, need, rule

SURE_HALF_WIDTH = 0.05  # a split with a narrower interval would have shown that something was learnt
SMALL_HALF_WIDTH = 0.025  # a wider interval hides the differences that tuning is about
ACCURACY = "val_accuracy"
EVEN = 0.6  # a class with more than that can be what a sound model that weighs its classes falls behind
TOLD = 3.0  # standard errors above chance
EASIER = 0.02  # val above train by more than this, surely, is no accident


def small_split(code: str, split: str, accuracy: float, n: int) -> Finding | None:
    """Report a split whose size leaves its accuracy more uncertain than the differences that tuning is about."""
    half = wilson_half(accuracy, n)
    if half <= SMALL_HALF_WIDTH:
        return None
    title = f"{n} {split} examples leave an uncertainty of +- {100 * half:.1f} points"
    seen = {"n": n, "half_width": half, "accuracy": accuracy}
    return found(code, "note", title, evidence=seen, confidence=0.9)


def baseline(
    code: str, accuracy: float, n: int, share: float, learnt: str | None = None, monitored: bool = True
) -> Finding | None:
    """Report an accuracy whose interval reaches down to the share of the commonest class.

    `learnt`: what shows that the input is used all the same. Where no class has much more than half, the two contradict
    each other, and the metric is not what it says. Where one has, that is what weighing the classes does: accuracy is
    the wrong measure then, a warning if it is what is `monitored`.
    """
    low, high = wilson(accuracy, n)
    if low > share:
        return None
    severity: Severity = "error" if (high - low) / 2 < SURE_HALF_WIDTH else "warn"
    title = f"accuracy {accuracy:.3f} ({low:.3f} to {high:.3f}) is no better than the commonest class, {share:.3f}"
    seen = {"accuracy": accuracy, "interval": [low, high], "majority_share": share, "n": n}
    if learnt is None:
        return found(code, severity, title, evidence=seen, confidence=0.95)
    if share <= EVEN:
        remedy = "Look at how the metric makes an answer of the outputs: its axis, its threshold, which head it reads."
        finding = found(code, severity, f"{title}, though {learnt}", evidence=seen, remedy=remedy, confidence=0.9)
        return replace(finding, cause="metric-wrong")
    remedy = "Monitor a measure that counts classes alike (train.metric, train.monitor), as the mean of the recalls."
    finding = found(
        code, "warn" if monitored else "note", f"{title}, though {learnt}", evidence=seen, remedy=remedy, confidence=0.8
    )
    return replace(finding, cause="class-imbalance")


def tells_apart(recall: Sequence[float | None], counts: Sequence[int]) -> str | None:
    """Say how far the mean recall of the classes lies above that of any answer without the input; None if it may not.

    Answers that do not depend on the input have recalls that add up to 1.
    """
    known = [(r, n) for r, n in zip(recall, counts, strict=False) if r is not None and n]
    if len(known) < 2:
        return None
    mean = sum(r for r, _ in known) / len(known)
    smoothed = [((r * n + 1) / (n + 2), n) for r, n in known]
    error = math.sqrt(sum(r * (1 - r) / n for r, n in smoothed)) / len(known)
    if mean - 1 / len(known) <= TOLD * error:
        return None
    return f"the mean recall of the classes is {mean:.3f}, without the input {1 / len(known):.3f}"


@rule(
    "CU606",
    "at-baseline",
    "diagnose",
    meaning="The winner is no better than always answering the commonest class.",
    detected="the 95 % interval (Wilson) of its val accuracy reaches down to the commonest class's share of val; an "
    "error where the interval is narrower than 5 points either way, else a warning. Where one class has more than half "
    "and the mean recall is above chance by three standard errors, the input is used: the cause named is the imbalance",
    why="No curve of such a model says anything about tuning.",
    fix="Stop tuning: go back to steps 1 and 2 and look at labels, loader and normalisation.",
    confused_with="strongly unbalanced classes, where accuracy is the wrong measure: set train.monitor or train.metric",
    source="Karpathy, a recipe for training neural networks: the input-independent baseline",
)
def at_baseline(evidence: Mapping[str, Any]) -> Finding | None:
    accuracy = need(evidence, "val_accuracy", "the winner has no val accuracy")
    n = need(evidence, "val_n", "the size of val is not known")
    share = need(evidence, "majority_share", "the share of the commonest class is not known")
    learnt = tells_apart(evidence.get("recall") or [], evidence.get("class_counts") or [])
    return baseline("CU606", accuracy, n, share, learnt, evidence.get("monitor", ACCURACY) == ACCURACY)


@rule(
    "CU609",
    "val-too-small",
    "diagnose",
    meaning="The val split is too small for the differences that tuning is about.",
    detected="half the width of the 95 % interval (Wilson) of val accuracy > 2.5 points",
    why="Whether a change of a point helped cannot be seen.",
    fix="Set a larger data.val_fraction, or several seeds per configuration.",
    confused_with="noise of the training itself",
    source="Karpathy, a recipe: add significant digits to your eval; Google tuning playbook",
)
def val_too_small(evidence: Mapping[str, Any]) -> Finding | None:
    accuracy = need(evidence, "val_accuracy", "the winner has no val accuracy")
    n = need(evidence, "val_n", "the size of val is not known")
    return small_split("CU609", "val", accuracy, n)


@rule(
    "CU610",
    "train-val-shift",
    "diagnose",
    meaning="Val accuracy is clearly above train accuracy, though both are measured alike.",
    detected="the 95 % interval of train minus val (train subset, eval mode, no augmentation) lies below -2 points",
    why="Val should not be easier than what was trained on: its examples, or its pipeline, differ.",
    fix="Compare the classes and sources of train and val; look for label noise that only train has.",
    confused_with="train measured with augmentation or dropout, which is excluded here",
    source="UMLAUT: val above train; Google tuning playbook",
)
def val_above_train(evidence: Mapping[str, Any]) -> Finding | None:
    low, high = need(evidence, "gap_interval", "no train subset, or the size of val is not known")
    if high >= -EASIER:
        return None
    title = f"val is {-100 * evidence['gap']:.1f} points above train ({-100 * high:.1f} to {-100 * low:.1f})"
    return found("CU610", "warn", title, evidence={"gap": evidence["gap"], "interval": [low, high]}, confidence=0.8)


@rule(
    "TE801",
    "optimistic-val",
    "test",
    meaning="Test accuracy is below val accuracy by more than sampling explains.",
    detected="the 95 % interval of val minus test (Newcombe) lies above 0",
    why="The winner was chosen on val, which flatters it; a larger difference means that test comes from elsewhere.",
    fix="Report the test accuracy. Where the gap is large, compare the origin of the splits.",
    confused_with="another distribution in test (train-val-shift)",
    source="Cawley and Talbot 2010, On over-fitting in model selection",
)
def below_val(evidence: Mapping[str, Any]) -> Finding | None:
    low, high = _against_val(evidence)
    if low <= 0:
        return None
    title = f"test is {100 * (low + high) / 2:.1f} points below val ({100 * low:.1f} to {100 * high:.1f})"
    return found("TE801", "note", title, evidence=_both(evidence, low, high), confidence=0.9)


@rule(
    "TE802",
    "train-val-shift",
    "test",
    meaning="Test accuracy is above val accuracy by more than sampling explains.",
    detected="the 95 % interval of val minus test (Newcombe) lies below 0",
    why="Selection flatters val, never test: test must be easier, or overlap with train.",
    fix="Look for examples of test that are in train, and compare the origin of the splits.",
    confused_with="a small val split with an unlucky draw",
    source="Google tuning playbook; Karpathy, a recipe for training neural networks",
)
def above_val(evidence: Mapping[str, Any]) -> Finding | None:
    low, high = _against_val(evidence)
    if high >= 0:
        return None
    title = f"test is {-100 * (low + high) / 2:.1f} points above val ({-100 * high:.1f} to {-100 * low:.1f})"
    return found("TE802", "note", title, evidence=_both(evidence, low, high), confidence=0.8)


def _against_val(evidence: Mapping[str, Any]) -> tuple[float, float]:
    val = need(evidence, "val_accuracy", "fine has no val accuracy")
    val_n = need(evidence, "val_n", "the size of val is not known")
    return difference_interval(val, val_n, _test_accuracy(evidence), evidence["n"])


def _test_accuracy(evidence: Mapping[str, Any]) -> float:
    return float(need(evidence, "accuracy", "the test split was not evaluated"))


def _both(evidence: Mapping[str, Any], low: float, high: float) -> dict[str, Any]:
    return {**{key: evidence[key] for key in ("val_accuracy", "val_n", "accuracy", "n")}, "interval": [low, high]}


@rule(
    "TE803",
    "too-little-data",
    "test",
    meaning="The test split is so small that its accuracy is known to a few points at best.",
    detected="half the width of the 95 % interval (Wilson) > 2.5 points",
    why="Two models that differ by less cannot be told apart by this test.",
    fix="Quote the interval with the accuracy; set a larger data.test_fraction next time.",
    source="Wilson 1927",
)
def test_too_small(evidence: Mapping[str, Any]) -> Finding | None:
    return small_split("TE803", "test", _test_accuracy(evidence), evidence["n"])


@rule(
    "TE804",
    "at-baseline",
    "test",
    meaning="On the test split the model is no better than always answering its commonest class.",
    detected="the 95 % interval (Wilson) of test accuracy reaches down to the share of the commonest class in test; an "
    "error where the interval is narrower than 5 points either way, else a warning; a note where one class has more "
    "than half and the mean recall is above chance",
    why="What was tuned does not generalise at all.",
    fix="Look at the test split's labels and pipeline first, then at steps 1 and 2.",
    confused_with="strongly unbalanced classes, where accuracy is the wrong measure",
    source="Karpathy, a recipe for training neural networks: the input-independent baseline",
)
def test_at_baseline(evidence: Mapping[str, Any]) -> Finding | None:
    accuracy = _test_accuracy(evidence)
    confusion = evidence.get("confusion") or []
    rows = [sum(row) for row in confusion]
    if not rows or not sum(rows):
        raise Missing("no confusion matrix")
    recall = [row[i] / total if total else None for i, (row, total) in enumerate(zip(confusion, rows, strict=True))]
    return baseline("TE804", accuracy, evidence["n"], max(rows) / sum(rows), tells_apart(recall, rows), monitored=False)


@rule(
    "TE805",
    "test-failed",
    "test",
    meaning="The winner could not be evaluated on the test split.",
    detected="the evaluation has no accuracy",
    why="Without it there is no generalisation error to report.",
    fix="Read the message; the checkpoint and the test split must both be readable.",
    source="tuner",
)
def test_failed(evidence: Mapping[str, Any]) -> Finding | None:
    if evidence.get("accuracy") is not None:
        return None
    why = evidence.get("error") or "no result"
    return found("TE805", "error", f"the test evaluation failed: {why.splitlines()[0]}", evidence={"error": why})


@rule(
    "TE806",
    "non-finite-input",
    "test",
    meaning="The winner's answer to some test examples is NaN or infinite.",
    detected="Every output on the test split is looked at; steps 1 to 6 never see these examples.",
    why="Such an answer counts as the first class: the accuracy holds answers that are none, and there is no loss.",
    fix="Mend the named example (step 1 checks train and val alone), then look again: tuner test RECIPE --force.",
    confused_with="an overflow in reduced precision; the test runs in fp32",
    source="checklist, step 1",
)
def test_answers_not_finite(evidence: Mapping[str, Any]) -> Finding | None:
    count = need(evidence, "non_finite", "the outputs were not looked at")
    if not count:
        return None
    first = evidence.get("first_non_finite")
    title = f"{count} of {evidence.get('n')} test examples get no finite answer, first {first}"
    return found("TE806", "warn", title, evidence={"count": count, "first": first}, confidence=1.0)
