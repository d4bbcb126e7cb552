"""One look for all plots: colour-blind safe (Okabe and Ito's palette, viridis for values), the answer as the title."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from tuner.core.formatting import rates
from tuner.core.result import StageResult
from tuner.view.text import is_number

# matplotlib is imported where something is drawn, never with a module; these stand for its types
Axes = Any
Figure = Any

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PINK, BLACK = "#56B4E9", "#CC79A7", "#222222"
CYCLE = (BLUE, ORANGE, GREEN, PINK, SKY, RED, BLACK)
GREY, LIGHT = "#666666", "#DDDDDD"
VALUES = "viridis"
INCHES_PER_PANEL = 4.6
TITLE_CHARS_PER_INCH = 11.0


def sheet(
    title: str, columns: int = 1, rows: int = 1, panel: tuple[float, float] | None = None, **options: Any
) -> tuple[Figure, Any]:
    """Return a figure and its axes (a list of lists); the title is wrapped to the figure's width.

    `options`: of `Figure.subplots`, such as the ratios of the panels.
    """
    from matplotlib.figure import Figure

    wide, high = panel or ((7.2, 4.2) if columns == 1 else (INCHES_PER_PANEL, 3.7))
    lines = textwrap.wrap(safe(title), int(wide * columns * TITLE_CHARS_PER_INCH)) or [""]
    figure = Figure(figsize=(wide * columns, high * rows + 0.24 * len(lines)), layout="constrained")
    figure.suptitle("\n".join(lines), fontsize=11, fontweight="bold", color=BLACK, x=0.01, ha="left")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    for row in axes:
        for ax in row:
            dress(ax)
    return figure, axes.tolist()


def dress(ax: Axes) -> None:
    """Give axes the common look."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GREY)
    ax.tick_params(labelsize=9, colors=BLACK)
    ax.grid(True, color=LIGHT, linewidth=0.6)
    ax.set_axisbelow(True)


def label(ax: Axes, x: str, y: str, title: str = "") -> None:
    """Name the axes, units included."""
    ax.set_xlabel(safe(x), fontsize=9.5)
    ax.set_ylabel(safe(y), fontsize=9.5)
    if title:
        ax.set_title(safe(title), fontsize=10, loc="left", color=BLACK)


def legend(ax: Axes, **options: Any) -> None:
    """Add a legend if there is anything to name."""
    handles, _ = ax.get_legend_handles_labels()
    if handles:
        ax.legend(**{"fontsize": 8.5, "frameon": True, "framealpha": 0.85, "edgecolor": "none", **options})


def empty(ax: Axes, text: str) -> None:
    """Say in an empty panel why it is empty."""
    ax.grid(False)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.text(0.5, 0.5, safe(textwrap.fill(text, 40)), ha="center", va="center", color=GREY, transform=ax.transAxes)


def class_ticks(ax: Axes, places: Sequence[int], names: Sequence[str]) -> None:
    """Put names under an axis, slanted where they are long."""
    slanted = max(map(len, names), default=0) > 3
    options: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    ax.set_xticks(places, [safe(name[:16]) for name in names], fontsize=8, **options)


def whole_x(ax: Axes) -> None:
    """Put ticks at whole numbers only: epochs."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def log_axis(axis: Any) -> None:
    """Label a log axis plainly and in one form, not with powers set in small type."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    ratio = high / low if low > 0 else 1.0
    parts = (1.0,) if ratio > 300 else (1.0, 3.0) if ratio > 30 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(base=10, subs=parts, numticks=12))

    def texts(values: Sequence[float]) -> list[str]:
        """Name the ticks that are seen; what lies beyond the axis has no say in their form."""
        low, high = sorted(axis.get_view_interval())
        shown = [value for value in values if low <= value <= high]
        named = dict(zip(shown, rates(shown), strict=True))
        return [named.get(value, "") for value in values]

    formatter: Any = FuncFormatter(lambda value, _: rates([value])[0])
    formatter.format_ticks = texts
    axis.set_major_formatter(formatter)
    axis.set_minor_formatter(NullFormatter())


def value_range(scores: Sequence[float]) -> tuple[float, float]:
    """Return the ends of a colour scale over scores; equal ones get a little room."""
    low, high = min(scores), max(scores)
    return (low if high - low > 1e-9 else high - 0.01), high


def pairs(x: Sequence[Any], y: Sequence[Any]) -> tuple[list[float], list[float]]:
    """Return the points of which both coordinates are finite numbers."""
    kept = [(float(a), float(b)) for a, b in zip(x, y, strict=False) if is_number(a) and is_number(b)]
    return [a for a, _ in kept], [b for _, b in kept]


def headline(result: StageResult[Any]) -> str:
    """Return the stage's one sentence, the title of its plots."""
    return result.headline or result.stage


def safe(text: str) -> str:
    """Keep matplotlib from reading `$` in a user's name as mathematics."""
    return str(text).replace("$", r"\$")
