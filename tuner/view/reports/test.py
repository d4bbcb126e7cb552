"""The end: the generalisation error, read once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.view.artifacts import get
from tuner.view.blocks import Blocks
from tuner.view.text import fixed, interval, number

TITLE = "TEST    generalisation error"


def body(result: Mapping[str, Any], stage_dir: Path, page: Blocks) -> None:
    """Show accuracy, loss, the confusion matrix where it fits, and what is most often taken for what."""
    metrics = get(result, "metrics", default={})
    name = str(get(metrics, "score_name", default="accuracy"))
    accuracy = fixed(get(metrics, "score", default=get(metrics, "accuracy")), 4)
    if get(metrics, "interval") is not None:
        accuracy += f"   (95 % interval {interval(metrics['interval'])})"
    rows = [
        [name.replace("_", " "), accuracy],
        ["loss", fixed(get(metrics, "loss"))],
        ["examples", number(get(metrics, "n"))],
    ]
    page.table(["on the test split", ""], rows, left=(0, 1), styles=["bold", "", ""])
    matrix = confusion_of(metrics)
    names = class_names(metrics, len(matrix))
    if matrix:
        page.matrix("Confusion: one row per true class, one column per answer", matrix, names)
        _mistakes(matrix, names, page)


def confusion_of(metrics: Mapping[str, Any]) -> list[list[int]]:
    """Return the confusion matrix (rows: true class), or [] unless it is square and made of counts."""
    matrix = get(metrics, "confusion", default=[])
    if not isinstance(matrix, list) or not all(isinstance(row, list) and len(row) == len(matrix) for row in matrix):
        return []
    if not all(isinstance(count, (int, float)) for row in matrix for count in row):
        return []
    return [[int(count) for count in row] for row in matrix]


def class_names(metrics: Mapping[str, Any], count: int) -> list[str]:
    """Return one name per class: the source's, else their numbers."""
    names = get(metrics, "class_names", default=[])
    if isinstance(names, list) and len(names) == count:
        return [str(name) for name in names]
    return [str(index) for index in range(count)]


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
