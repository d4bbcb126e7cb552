"""Scores of a model on a split: gathered batch by batch, as the task defines them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tuner.core.errors import UsageError, UserCodeError
from tuner.tasks.base import Task, is_known, monitored_score
from tuner.tasks.classification import is_counted, measure_counts
from tuner.train.nested import scored_part

LossFunction = Callable[[Any, Tensor], Tensor]
# what a single output is tried at, the nearest to 0 first: where two are equally good the nearer one counts
LEVELS = (0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 5.0, -5.0, 20.0, -20.0)
REFUSALS = (RuntimeError, ValueError, IndexError, TypeError, AssertionError, UsageError, UserCodeError)


class Scorer:
    """Which scores are measured, and how outputs are read; the loss tells from which value on an output says yes."""

    def __init__(self, task: Task, loss: LossFunction, monitor: str = "") -> None:
        wanted = monitored_score(task, monitor)
        self.task = task
        self.names = tuple(dict.fromkeys((*task.always, *((wanted,) if is_known(task, wanted) else ()))))
        self._loss = loss
        self._threshold: float | None = None

    def rows(self, outputs: Any, targets: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return what scores take of a batch, or None where the outputs have no shape that the task can score."""
        part = scored_part(outputs)
        if not isinstance(part, Tensor):
            return None
        part, targets = part.detach(), hard(targets) if self.task.name == "classification" else targets
        rows = self.task.rows(part, targets)
        asked = self.task.noun in ("class", "label") and rows is not None
        if not asked or rows is None or not says_yes_or_no(part, rows[0], targets):
            return rows
        return self.task.rows(part, targets, self.threshold(part, targets))

    def threshold(self, outputs: Tensor, targets: Tensor) -> float:
        """Return the output above which a single score says yes: halfway between the best for no and for yes.

        0 for logits, 0.5 for probabilities and for outputs that are drawn to 0 and 1.
        """
        if self._threshold is None:
            best = [self._best_level(outputs, torch.full_like(targets, answer)) for answer in (0, 1)]
            apart = best[0] is not None and best[1] is not None and best[0] < best[1]
            self._threshold = (best[0] + best[1]) / 2 if apart else 0.0  # type: ignore[operator]
        return self._threshold

    def _best_level(self, outputs: Tensor, targets: Tensor) -> float | None:
        """Return the output that gives the least loss where every target is the same."""
        found: list[tuple[float, float]] = []
        for level in LEVELS:
            try:
                value = float(self._loss(torch.full_like(outputs, level), targets).detach())
            except REFUSALS:
                continue
            if math.isfinite(value) and (not found or value < found[-1][0] - 1e-9):
                found.append((value, level))
        return min(found)[1] if found else None

    def right(self, outputs: Any, targets: Tensor) -> Tensor | None:
        """Return how many examples of a batch are right, a share of each where it has several positions.

        None where the task has no right or wrong.
        """
        if "accuracy" not in self.task.scores or (rows := self.rows(outputs, targets)) is None:
            return None
        right = (rows[0].argmax(dim=1) == rows[1]).sum()
        return right if len(rows[1]) == len(targets) else right * (len(targets) / max(1, len(rows[1])))


def says_yes_or_no(outputs: Tensor, rows: Tensor, targets: Tensor) -> bool:
    """Return whether an output is a single score, for which a threshold is needed."""
    multilabel = rows.shape == outputs.shape == targets.shape and targets.ndim == 2
    return outputs.is_floating_point() and (multilabel or outputs.numel() == targets.numel())


def hard(targets: Tensor) -> Tensor:
    """Return class indices; of targets that are shares of the classes, (N, C) float, the class of the largest share."""
    return targets.argmax(dim=1) if targets.ndim == 2 and targets.is_floating_point() else targets


class Tally:
    """Gathers the scores of one split; of classes the confusion is enough for most, and stays on the device."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.hits: list[Tensor] = []
        self.rows_seen = 0
        self.kept: list[tuple[Tensor, Tensor]] = []
        self.counts: dict[int, Tensor] = {}  # confusions by the number of classes
        self.unscored = False
        others = [name for name in scorer.names if name != "accuracy"]
        of_classes = "accuracy" in scorer.task.scores
        self.counted = tuple(name for name in others if of_classes and is_counted(name))
        self.whole = tuple(name for name in others if name not in self.counted)

    def add(self, outputs: Any, targets: Tensor) -> None:
        """Add one batch."""
        rows = self.scorer.rows(outputs, targets)
        if rows is None:
            self.unscored = True
            return
        if "accuracy" in self.scorer.names:
            self.hits.append((rows[0].argmax(dim=1) == rows[1]).sum())
            self.rows_seen += len(rows[1])
        if self.counted:
            self._count(*rows)
        if self.whole:
            self.kept.append((rows[0].cpu(), rows[1].cpu()))

    def _count(self, outputs: Tensor, targets: Tensor) -> None:
        classes = outputs.shape[1]
        inside = (targets >= 0) & (targets < classes)
        flat = targets[inside] * classes + outputs.argmax(dim=1)[inside]
        counts = torch.bincount(flat, minlength=classes * classes)
        self.counts[classes] = self.counts[classes] + counts if classes in self.counts else counts

    def values(self) -> dict[str, float]:
        """Return the scores by name, NaN where these examples leave one undefined; none where outputs have no score."""
        found: dict[str, float | None] = {}
        if self.unscored:
            return {}
        if self.hits and self.rows_seen:
            found["accuracy"] = float(torch.stack(self.hits).sum()) / self.rows_seen
        if len(self.counts) == 1:
            ((classes, counts),) = self.counts.items()
            found |= measure_counts(self.counted, counts.cpu().numpy().reshape(classes, classes))
        if self.kept:
            outputs, targets = (torch.cat(part).numpy() for part in zip(*self.kept, strict=True))
            found |= self.scorer.task.measure(self.whole, outputs, targets)
        known = {name: found[name] for name in self.scorer.names if name in found}
        return {name: math.nan if value is None else value for name, value in known.items()}
