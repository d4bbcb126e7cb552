"""What the page's script draws: each figure as a JSON value, with every number as the run's files have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.core.formatting import plural
from tuner.view import artifacts
from tuner.view.artifacts import Row, get
from tuner.view.blocks import Plot
from tuner.view.curves import Mark, Series
from tuner.view.text import as_float, is_number, params_text, short_keys, spans_decades, words_of

COLOURS = 5  # of series; the sixth is for what stays in the background
CURVES_SHOWN = 40  # best trials whose curves are drawn
LINES_SHOWN = 200  # best trials in parallel coordinates

Figure = dict[str, Any]


def of_plot(plot: Plot) -> Figure:
    """Return the figure of a plot block."""
    return {
        "title": plot.title,
        "xLabel": plot.x_label,
        "yLabel": plot.y_label.removesuffix(" (log scale)"),
        "logX": plot.log_x,
        "logY": plot.log_y,
        "series": [_series(series, i) for i, series in enumerate(plot.series)],
        "levels": _marks(plot.levels),
        "places": _marks(plot.places),
    }


def _series(series: Series, index: int, quiet: bool = False) -> Figure:
    found: Figure = {"name": series.name, "x": list(series.x), "y": list(series.y), "colour": index % COLOURS}
    flags = {"line": series.line, "quiet": quiet, "top": series.at_top, "cross": series.glyph == "x"}
    return found | {name: int(value) for name, value in flags.items()}


def _marks(marks: Sequence[Mark]) -> list[Figure]:
    return [{"v": mark.value, "n": mark.name} for mark in marks if is_number(mark.value)]


def of_search(result: Mapping[str, Any], stage_dir: Path) -> list[Figure]:
    """Return the figures of a search that only the page has: the trials' curves, and parallel coordinates."""
    score = str(get(result, "metrics", "score_name", default="accuracy"))
    trials = [row for row in artifacts.trials(stage_dir, score) if row.get("trial")]
    keys = artifacts.searched(trials)
    scored = [row for row in trials if as_float(row.get("score")) is not None]
    ranked = sorted(scored, key=artifacts.rank, reverse=True)
    if len(ranked) < 2:
        return []
    chosen = get(result, "choice", "trial") or ranked[0]["trial"]
    found = [_curves(ranked, keys, chosen, stage_dir, metric) for metric in dict.fromkeys(("loss", score))]
    if keys:
        found.append(_parallel(ranked[:LINES_SHOWN], keys, chosen, len(scored)))
    return [figure for figure in found if figure]


def _curves(ranked: Sequence[Row], keys: Sequence[str], chosen: str | None, stage_dir: Path, metric: str) -> Figure:
    shown = ranked[:CURVES_SHOWN]
    shown = shown if any(row["trial"] == chosen for row in shown) else [*shown, *_of(ranked, chosen)]
    series = []
    for row in shown:
        x, y = artifacts.column(artifacts.curve(stage_dir, row["trial"]), "val", "epoch", metric)
        if any(value is not None for value in y):
            best = row["trial"] == chosen
            series.append(_series(Series(_name(row, keys), x, y), 0 if best else 5, quiet=not best))
    if not series:
        return {}
    part = "every trial" if len(shown) == len(ranked) else f"the best {len(shown)} of {plural(len(ranked), 'trial')}"
    title = f"Val {words_of(metric)} of {part}, by epoch; the chosen one in colour"
    log = metric == "loss" and spans_decades(value for part in series for value in part["y"])
    return {"title": title, "xLabel": "epoch", "yLabel": f"val {words_of(metric)}", "series": series, "logY": log}


def _of(ranked: Sequence[Row], trial: str | None) -> list[Row]:
    return [row for row in ranked if row["trial"] == trial]


def _name(row: Row, keys: Sequence[str]) -> str:
    params = {key: row[key] for key in keys if row.get(key) is not None}
    return f"trial {row['trial']}" + (f" ({params_text(params)})" if params else "")


def _parallel(ranked: Sequence[Row], keys: Sequence[str], chosen: str | None, of: int) -> Figure:
    names = short_keys(keys)
    axes = [
        _axis(names[key], [row.get(key) for row in ranked], artifacts.is_log(key, [r.get(key) for r in ranked]))
        for key in keys
    ]
    axes.append(_axis("score", [row["score"] for row in ranked], False))
    part = "Every trial" if len(ranked) == of else f"The best {len(ranked)} of {of} trials"
    last = max(len(ranked) - 1, 1)
    return {
        "title": f"{part}: one line through its values to its score; the chosen one in colour",
        "axes": axes,
        "names": [f"trial {row['trial']}" for row in ranked],
        "good": [round(1 - place / last, 3) for place in range(len(ranked))],
        "best": next((i for i, row in enumerate(ranked) if row["trial"] == chosen), 0),
    }


def _axis(name: str, values: Sequence[Any], log: bool) -> Figure:
    if all(value is None or as_float(value) is not None for value in values):
        return {"name": name, "values": list(values), "log": log}
    texts = [None if value is None else str(value) for value in values]
    return {
        "name": name,
        "values": texts,
        "log": False,
        "options": sorted({text for text in texts if text is not None}),
    }
