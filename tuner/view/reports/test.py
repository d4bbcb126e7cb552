"""The end: the generalisation error, read once."""

from __future__ import annotations

from pathlib import Path

from tuner.core.metrics import TestMetrics
from tuner.core.result import StageResult
from tuner.view.blocks import Blocks
from tuner.view.reports.averaged import averaged
from tuner.view.text import fixed, interval, number

TITLE = "TEST    generalisation error"


def body(result: StageResult[TestMetrics], stage_dir: Path, page: Blocks) -> None:
    """Show accuracy, loss, the confusion matrix where it fits, and what is most often taken for what."""
    metrics = result.metrics
    score = metrics.accuracy if metrics.score is None else metrics.score
    text = fixed(score, 4)
    if metrics.interval is not None:
        text += f"   (95 % interval {interval(metrics.interval)})"
    name = (metrics.score_name or "accuracy").replace("_", " ")
    rows = [[name, text], ["loss", fixed(metrics.loss)], ["examples", number(metrics.n)]]
    page.table(["on the test split", ""], rows, left=(0, 1), styles=["bold", "", ""])
    averaged(metrics.after, name, "test", page)
    matrix = confusion_of(metrics)
    names = class_names(metrics, len(matrix))
    if matrix:
        page.matrix("Confusion: one row per true class, one column per answer", matrix, names)
        _mistakes(matrix, names, page)


def confusion_of(metrics: TestMetrics) -> list[list[int]]:
    """Return the confusion matrix (rows: true class), or [] unless it is square."""
    matrix = [list(row) for row in metrics.confusion or ()]
    return matrix if all(len(row) == len(matrix) for row in matrix) else []


def class_names(metrics: TestMetrics, count: int) -> list[str]:
    """Return one name per class: the source's, else their numbers."""
    names = metrics.class_names or ()
    return list(names) if len(names) == count else [str(index) for index in range(count)]


def times(count: int) -> str:
    """Return `once`, `3 times`."""
    return "once" if count == 1 else f"{number(count)} times"


def _mistakes(matrix: list[list[int]], names: list[str], page: Blocks) -> None:
    wrong = [
        (count, names[i], names[j])
        for i, row in enumerate(matrix)
        for j, count in enumerate(row)
        if i != j and count > 0
    ]
    wrong.sort(key=lambda item: -item[0])
    if wrong:
        page.gap()
        text = "; ".join(f"{true} taken for {answer} ({times(count)})" for count, true, answer in wrong[:3])
        page.text(f"Most often: {text}.", 3, hang=2)
