"""What rules of several stages share: an accuracy at its baseline, a split that is too small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from tuner.checks.cards import found
from tuner.checks.limits import Limit
from tuner.core.result import Finding, Severity
from tuner.core.statistics import auroc_error, wilson, wilson_half

SURE_HALF_WIDTH = Limit(
    "sure half width",
    0.05,
    "accuracy",
    "derived: a split with a narrower interval would show that something was learnt",
)
SMALL_HALF_WIDTH = Limit(
    "small half width", 0.025, "accuracy", "derived: differences between good configurations are a point or two"
)
EVEN = Limit(
    "even",
    0.6,
    "share of the largest class",
    "zoo: a sound model that weighs its classes falls behind a class that is larger",
)
NORMAL = NormalDist()
TOLD = Limit("told", 3.0, "standard errors", "derived: one in 700 by chance")


# what the cards of the rules say that are over the same two cases in coarse, diagnose and test
CONTRADICTS = {
    "meaning": "Accuracy is no better than the majority class, though the model has learnt: the metric is wrong.",
    "why": "Loss or recall and accuracy contradict each other, so the search chooses by a number that says nothing.",
    "fix": "Look at how the metric makes an answer of the outputs: its axis, its threshold, which head it reads.",
    "confused_with": "classes of very different size, where a sound model falls behind the majority class",
    "source": "Karpathy, A Recipe for Training Neural Networks: verify the metric on what is known",
}
HIDES = {
    "meaning": "Accuracy is no better than the majority class, though the classes are told apart.",
    "why": "Where one class has most of the examples, a sound model that weighs its classes falls behind it in "
    "accuracy.",
    "fix": 'Set train.monitor = "val_balanced_accuracy", or another score that counts classes alike.',
    "confused_with": "a model that ignores its input, whose mean recall is that of chance",
    "source": "derived: recalls of answers that do not depend on the input add up to 1",
}


@dataclass(frozen=True)
class AtBaseline:
    """An accuracy over `n` examples, and the share of their majority class."""

    accuracy: float
    n: int
    share: float


def small_split(code: str, split: str, accuracy: float, n: int) -> Finding | None:
    """Report a split whose size leaves its accuracy more uncertain than the differences that tuning is about."""
    half = wilson_half(accuracy, n)
    if half <= SMALL_HALF_WIDTH:
        return None
    title = f"{n} {split} examples leave an uncertainty of +- {100 * half:.1f} points"
    seen = {"n": n, "half_width": half, "accuracy": accuracy}
    return found(code, "note", title, evidence=seen)


def baseline(code: str, case: str, seen: AtBaseline, learnt: str | None, monitored: bool = True) -> Finding | None:
    """Report an accuracy whose interval reaches down to the share of the majority class, in one of three cases.

    `learnt`: what shows that the input is used all the same. `ignores`: nothing does. `contradicts`: it does, and no
    class has much more than half, so that the metric is not what it says. `hides`: one class has, and accuracy is the
    wrong measure, a warning if it is what is `monitored`.
    """
    low, high = wilson(seen.accuracy, seen.n)
    now = "ignores" if learnt is None else "contradicts" if seen.share <= EVEN else "hides"
    if low > seen.share or now != case:
        return None
    severity: Severity = "error" if (high - low) / 2 < SURE_HALF_WIDTH else "warn"
    if case == "hides":
        severity = "warn" if monitored else "note"
    title = (
        f"accuracy {seen.accuracy:.3f} ({low:.3f} to {high:.3f}) is no better than the majority class, {seen.share:.3f}"
    )
    title += "" if learnt is None else f", though {learnt}"
    facts = {"accuracy": seen.accuracy, "interval": [low, high], "majority_share": seen.share, "n": seen.n}
    return found(code, severity, title, evidence=facts)


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


def ranks_apart(areas: Sequence[float | None], counts: Sequence[int]) -> str | None:
    """Say how well a class's own examples are ranked before all others; None if chance may do as well.

    Of the classes the clearest one, in standard errors of an area under chance (Mann-Whitney), of more than `TOLD`
    after Bonferroni. A model whose largest class wins every answer has recalls of chance and still tells classes apart.
    """
    n = sum(counts)
    known = [(a, c) for a, c in zip(areas, counts, strict=False) if a is not None and 0 < c < n]
    if not known:
        return None
    clear = [((a - 0.5) / auroc_error(c, n - c), a) for a, c in known]
    errors, best = max(clear)
    if len(known) * NORMAL.cdf(-errors) >= NORMAL.cdf(-TOLD):
        return None
    return f"a class's own examples are ranked before the others in {best:.0%} of all pairs, by chance in 50%"
