"""Step 5: the search sheets of the fine stage, and the finalists over their seeds."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from tuner.core.metrics import FinalistMetrics, FineMetrics
from tuner.core.result import StageResult
from tuner.view import artifacts
from tuner.view.plots import importance, style
from tuner.view.plots.coarse import curves_sheet, search_sheet
from tuner.view.plots.style import Figure
from tuner.view.text import as_float, fixed, params_text, with_unit, words_of

FINALISTS = "The finalists over their seeds, and what new data should show"


def figures(result: StageResult[FineMetrics], stage_dir: Path) -> dict[str, Figure]:
    """Draw the search sheet, the learning curves, the finalists, and what mattered."""
    trials = artifacts.trials(stage_dir, result.metrics.score_key)
    chosen = result.choice.get("trial")
    sheets = {
        "search": search_sheet(trials, result),
        "curves": curves_sheet(trials, stage_dir, chosen, result.metrics.score_key),
    }
    finalists = [entry for entry in result.metrics.finalists if entry.scores]
    if finalists:
        sheets["finalists"] = _finalists(FINALISTS, finalists, chosen, result)
    return sheets | importance.sheets(result, trials)


def _finalists(
    title: str, finalists: Sequence[FinalistMetrics], winner: str | None, result: StageResult[FineMetrics]
) -> Figure:
    figure, ((ax,),) = style.sheet(title, panel=(7.6, 1.1 + 0.62 * len(finalists)))
    names = []
    for place, entry in enumerate(finalists):
        scores = entry.scores
        won = artifacts.has_won(entry, winner)
        colour = style.RED if won else style.BLUE
        ax.scatter(
            scores,
            [place] * len(scores),
            color=colour,
            s=34,
            alpha=0.75,
            zorder=3,
            label="one seed" if place == 0 else None,
        )
        mean = as_float(entry.mean)
        mean = sum(scores) / len(scores) if mean is None else mean
        ax.errorbar(
            [mean],
            [place],
            xerr=[as_float(entry.std) or 0.0],
            fmt="D",
            color=style.BLACK,
            markersize=6,
            capsize=5,
            zorder=4,
            label="mean +- std" if place == 0 else None,
        )
        trial = f"{entry.trial}{' (winner)' if won else ''}"
        names.append(f"{trial}\n{_short(params_text(entry.params))}")
    value, (low, high) = None if result.metrics.expected is None else result.metrics.expected.value, _interval(result)
    if value is not None and low is not None and high is not None:
        ax.axvspan(low, high, color=style.GREEN, alpha=0.13, lw=0, label="winner on new data, 95 % interval")
        ax.axvline(value, color=style.GREEN, linestyle="--", linewidth=1.4, label=f"expected, {fixed(value)}")
    ax.set_yticks(range(len(names)), [style.safe(name) for name in names], fontsize=8)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(False, axis="y")
    style.label(ax, with_unit(f"best val {words_of(result.metrics.score_key)}"), "")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=2, fontsize=8.5, frameon=False)
    return figure


def _interval(result: StageResult[FineMetrics]) -> tuple[float | None, float | None]:
    return result.metrics.interval or (None, None)


def _short(text: str) -> str:
    """Wrap to two lines at most."""
    lines = textwrap.wrap(text, 44)
    return "\n".join(lines[:2]) + (" ..." if len(lines) > 2 else "")
