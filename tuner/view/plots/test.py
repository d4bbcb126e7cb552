"""The end: the confusion matrix and the accuracy of every class."""

from __future__ import annotations

from pathlib import Path

from tuner.core.metrics import TestMetrics
from tuner.core.result import StageResult
from tuner.view.plots import style
from tuner.view.plots.style import Axes, Figure
from tuner.view.reports.test import class_names, confusion_of
from tuner.view.text import as_float, fixed

COUNTS_SHOWN = 20  # classes up to which every cell carries its count


def figures(result: StageResult[TestMetrics], stage_dir: Path) -> dict[str, Figure]:
    """Draw the confusion matrix beside the accuracy per class."""
    metrics = result.metrics
    matrix = confusion_of(metrics)
    names = class_names(metrics, len(matrix))
    side = min(max(4.6, 0.42 * len(matrix) + 1.4), 9.0)
    figure, ((left, right),) = style.sheet(style.headline(result), columns=2, panel=(side + 0.4, side))
    if matrix:
        _matrix(left, matrix, names, figure)
        _per_class(right, matrix, names, as_float(metrics.accuracy))
    else:
        style.empty(left, "no confusion matrix: the outputs are not (N, C)")
        style.empty(right, "no accuracy per class")
    return {"test": figure}


def _matrix(ax: Axes, matrix: list[list[int]], names: list[str], figure: Figure) -> None:
    totals = [max(sum(row), 1) for row in matrix]
    shares = [[count / total for count in row] for row, total in zip(matrix, totals, strict=True)]
    ax.grid(False)
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    if len(matrix) <= COUNTS_SHOWN:
        size = 9 if len(matrix) <= 12 else 6.5
        for i, row in enumerate(matrix):
            for j, count in enumerate(row):
                if count:
                    colour = "white" if shares[i][j] > 0.55 else style.BLACK
                    ax.text(j, i, str(count), ha="center", va="center", fontsize=size, color=colour)
    style.class_ticks(ax, *_shown(names))
    _name_rows(ax, names)
    bar = figure.colorbar(image, ax=ax, shrink=0.75, pad=0.02)
    bar.set_label("share of the true class", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    style.label(ax, "answer", "true class", "Confusion")


def _per_class(ax: Axes, matrix: list[list[int]], names: list[str], accuracy: float | None) -> None:
    right = [row[i] / sum(row) if sum(row) else 0.0 for i, row in enumerate(matrix)]
    worst = min(right)
    colours = [style.ORANGE if value == worst else style.BLUE for value in right]
    ax.barh(range(len(right)), right, color=colours, height=0.75)
    if len(right) <= COUNTS_SHOWN:
        for place, value in enumerate(right):
            ax.text(
                0.015,
                place,
                fixed(value, 2),
                va="center",
                ha="left",
                fontsize=8,
                color="white" if value > 0.12 and value != worst else style.BLACK,
            )
    if accuracy is not None:
        ax.axvline(accuracy, color=style.RED, linestyle="--", linewidth=1.4, label=f"all classes, {fixed(accuracy)}")
    _name_rows(ax, names)
    ax.set_ylim(len(right) - 0.5, -0.5)
    ax.set_xlim(0, 1)
    ax.grid(False, axis="y")
    style.label(ax, "accuracy [fraction]", "", "Accuracy per class (the lowest in orange)")
    if accuracy is not None:
        ax.legend(fontsize=8.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12))


def _shown(names: list[str]) -> tuple[list[int], list[str]]:
    stride = -(-len(names) // 40)
    places = list(range(0, len(names), stride))
    return places, [names[i] for i in places]


def _name_rows(ax: Axes, names: list[str]) -> None:
    places, texts = _shown(names)
    ax.set_yticks(places, [style.safe(text[:16]) for text in texts], fontsize=8)
