"""Rules about the measure itself: of step 6 (baseline, size of val, val against train) and of the test at the end."""

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
    small_split,
    tells_apart,
)
from tuner.checks.cards import Missing, found, need, rule
from tuner.checks.test_evaluation.evidence import TestEvaluation
from tuner.core.result import Finding
from tuner.core.statistics import difference_interval


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
def below_val(test: TestEvaluation) -> Finding | None:
    low, high = _against_val(test)
    if low <= 0:
        return None
    title = f"test is {100 * (low + high) / 2:.1f} points below val ({100 * low:.1f} to {100 * high:.1f})"
    return found("TE801", "note", title, evidence=_both(test, low, high))


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
def above_val(test: TestEvaluation) -> Finding | None:
    low, high = _against_val(test)
    if high >= 0:
        return None
    title = f"test is {-100 * (low + high) / 2:.1f} points above val ({-100 * high:.1f} to {-100 * low:.1f})"
    return found("TE802", "note", title, evidence=_both(test, low, high))


def _against_val(test: TestEvaluation) -> tuple[float, float]:
    val = need(test.val_accuracy, "fine has no val accuracy")
    val_n = need(test.val_n, "the size of val is not known")
    return difference_interval(val, val_n, _test_accuracy(test), test.n or 0)


def _test_accuracy(test: TestEvaluation) -> float:
    return float(need(test.accuracy, "the test split was not evaluated"))


def _both(test: TestEvaluation, low: float, high: float) -> dict[str, Any]:
    return {**test.only("val_accuracy", "val_n", "accuracy", "n"), "interval": [low, high]}


@rule(
    "TE803",
    "too-little-data",
    "test",
    meaning="The test split is so small that its accuracy is known to a few points at best.",
    detected=f"half the width of the 95 % interval (Wilson) > {SMALL_HALF_WIDTH:.1%}",
    why="Two models that differ by less cannot be distinguished by this test.",
    fix="Quote the interval with the accuracy; set a larger data.test_fraction next time.",
    source="Wilson 1927",
)
def test_too_small(test: TestEvaluation) -> Finding | None:
    return small_split("TE803", "test", _test_accuracy(test), test.n or 0)


@rule(
    "TE804",
    "at-baseline",
    "test",
    meaning="On the test split the model is no better than always answering the majority class.",
    detected="the 95 % interval (Wilson) of test accuracy reaches down to the share of the majority class in test; "
    f"an error where the interval is narrower than {SURE_HALF_WIDTH:.0%} either way, else a warning; a note where one "
    "class has more than half and the mean recall is above chance",
    why="What was tuned does not generalise at all.",
    fix="Look at the test split's labels and pipeline first, then at steps 1 and 2.",
    confused_with="strongly unbalanced classes, where accuracy is the wrong measure",
    source="Karpathy, a recipe for training neural networks: the input-independent baseline",
)
def test_at_baseline(test: TestEvaluation) -> Finding | None:
    return _baseline(test, "TE804", "ignores")


@rule(
    "TE808",
    "metric-wrong",
    "test",
    detected=f"accuracy as in TE804, no class has more than {EVEN:.0%} of test, and the mean recall is above chance "
    f"by {TOLD:g} standard errors",
    **CONTRADICTS,
)
def test_metric_contradicts(test: TestEvaluation) -> Finding | None:
    return _baseline(test, "TE808", "contradicts")


@rule(
    "TE807",
    "class-imbalance",
    "test",
    detected=f"accuracy as in TE804, one class has more than {EVEN:.0%} of test, and the mean recall is above chance "
    f"by {TOLD:g} standard errors",
    **HIDES,
)
def test_majority_hides_it(test: TestEvaluation) -> Finding | None:
    return _baseline(test, "TE807", "hides")


def _baseline(test: TestEvaluation, code: str, case: str) -> Finding | None:
    accuracy = _test_accuracy(test)
    confusion = test.confusion or []
    rows = [sum(row) for row in confusion]
    if not rows or not sum(rows):
        raise Missing("no confusion matrix")
    recall = [row[i] / total if total else None for i, (row, total) in enumerate(zip(confusion, rows, strict=True))]
    seen = AtBaseline(accuracy, test.n or 0, max(rows) / sum(rows))
    return baseline(code, case, seen, tells_apart(recall, rows), False)


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
def test_failed(test: TestEvaluation) -> Finding | None:
    if test.accuracy is not None or test.score is not None:
        return None
    why = test.error or "no result"
    return found("TE805", "error", f"the test evaluation failed: {why.splitlines()[0]}", evidence={"error": why})


@rule(
    "TE806",
    "non-finite-input",
    "test",
    meaning="The winner's answer to some test examples is NaN or infinite.",
    detected="Every output on the test split is looked at; steps 1 to 6 never see these examples.",
    why="Such an answer counts as the first class: the accuracy holds answers that are none, and there is no loss.",
    fix="Fix the named example (step 1 checks train and val alone), then look again: tuner test RECIPE --force.",
    confused_with="an overflow in reduced precision; the test runs in fp32",
    source="checklist, step 1",
)
def test_answers_not_finite(test: TestEvaluation) -> Finding | None:
    count = need(test.non_finite, "the outputs were not looked at")
    if not count:
        return None
    first = test.first_non_finite
    title = f"{count} of {test.n} test examples get no finite answer, first {first}"
    return found("TE806", "warn", title, evidence={"count": count, "first": first})
