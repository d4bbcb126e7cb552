"""What a Task answers, in one place: what a target is, what is scored, what a model that ignores its input scores."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tuner.core.errors import UsageError, did_you_mean

Array = Any  # a numpy array
Tensor = Any  # a torch tensor: a task calls its methods, and never imports torch
Rows = tuple[Tensor, Tensor]

SHARES = frozenset({"accuracy", "label_accuracy"})  # of right answers: their noise is that of counting
FRACTIONS = SHARES | {
    "balanced_accuracy",
    "macro_f1",
    "weighted_f1",
    "auc",
    "mean_average_precision",
    "map",
}  # from 0 to 1
NAMES = ("classification", "multilabel", "regression", "embedding")
NUMBERED = re.compile(r"(top|rank|f)_(\d+(?:\.\d+)?)")


class Task(Protocol):
    """One kind of target. Targets and outputs are one row per example; `rows` brings them to what scores take."""

    @property
    def name(self) -> str: ...

    @property
    def score(self) -> str:
        """What is maximised where the recipe names nothing else."""

    @property
    def always(self) -> tuple[str, ...]:
        """The scores of every evaluation."""

    @property
    def scores(self) -> tuple[str, ...]:
        """Every score by name; `top_k` stands for top_1, top_5, ..., as `f_beta` does for f_0.5, f_2."""

    @property
    def noun(self) -> str:
        """What there is one output for: class, label, value."""

    def as_targets(self, values: Any, where: str) -> Array:
        """Return targets as the loss and the scores take them; raise UsageError where they do not fit."""

    def width(self, *targets: Array) -> int:
        """Return how many outputs the targets need: classes, labels or values."""

    def strata(self, targets: Array) -> Array:
        """Return one number per example; splits have each number's share of the whole."""

    def by_group(self) -> bool:
        """Return whether a stratum is set aside whole: val and test then have identities that train has not."""

    def rows(self, outputs: Any, targets: Tensor, threshold: float = 0.0) -> Rows | None:
        """Return what scores take, or None where outputs have no shape that the task can score.

        `threshold`: the output above which a single score says yes; it is taken off.
        """

    def measure(self, names: tuple[str, ...], outputs: Array, targets: Array) -> dict[str, float | None]:
        """Return these scores of a whole split."""

    def constant(self, targets: Array) -> Array | None:
        """Return the outputs of a model that ignores its input and knows the targets' shares or mean."""

    def per_example(self, outputs: Array, targets: Array) -> Array | None:
        """Return one number per example that is larger where its answer is better; None where the loss must say."""

    def picture(self, outputs: Array, targets: Array) -> dict[str, Any]:
        """Return what the test's picture shows."""


def baseline(task: Task, name: str, targets: Array) -> float | None:
    """Return what a model that ignores its input scores on these targets."""
    outputs = task.constant(targets)
    return None if outputs is None else task.measure((name,), outputs, targets)[name]


def number_of(name: str) -> float | None:
    """Return the number in a score's name: 5 of top_5; None where there is none."""
    found = NUMBERED.fullmatch(name)
    return None if found is None else float(found[2])


def clipped(name: str, interval: Sequence[float] | None) -> list[float] | None:
    """Return an interval of a score without what it cannot be: fractions lie in 0..1, r2 up to 1, distances from 0."""
    if interval is None:
        return None
    share = name in FRACTIONS or bool(NUMBERED.fullmatch(name))
    low = 0.0 if share or name in ("mae", "rmse") else -math.inf
    high = 1.0 if share or name == "r2" else math.inf
    return [min(max(float(end), low), high) for end in interval]


def is_known(task: Task, name: str) -> bool:
    """Return whether the task has a score of that name."""
    if name in task.scores:
        return name not in ("top_k", "rank_k", "f_beta")
    found = NUMBERED.fullmatch(name)
    family = {"top": "top_k", "rank": "rank_k", "f": "f_beta"}
    return found is not None and family[found[1]] in task.scores and (found[1] == "f" or found[2].isdigit())


def monitored_score(task: Task, monitor: str) -> str:
    """Return the key of an evaluation that `train.monitor` names: accuracy, the default, is the task's own score."""
    key = monitor.removeprefix("val_")
    return task.score if key == "accuracy" and "accuracy" not in task.scores else key


def unknown(task: Task, monitor: str, measured: Mapping[str, Any]) -> UsageError:
    """Say that a monitored value is not measured, and which are."""
    known = [f"val_{key}" for key in dict.fromkeys((*measured, *task.scores))]
    number = " (write the number: top_5, rank_5, f_2)" if monitor.endswith(("top_k", "rank_k", "f_beta")) else ""
    return UsageError(
        f"train.monitor: {monitor!r} is not measured{number}{did_you_mean(monitor, known)} (known: {', '.join(known)})",
        "Name one of these; train.evaluate can return more.",
    )
