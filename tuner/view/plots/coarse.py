"""Step 4: the val score over the searched keys, and the learning curves of all trials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tuner.core.formatting import plural
from tuner.core.metrics import CoarseMetrics
from tuner.core.result import StageResult
from tuner.view import artifacts
from tuner.view.artifacts import Row, get
from tuner.view.importance import told_text
from tuner.view.plots import importance, style
from tuner.view.plots.keys import KeyAxis, by_importance, dress, key_axis
from tuner.view.plots.style import Axes, Figure
from tuner.view.text import as_float, fixed, short_keys, with_unit, words_of

PANELS = 3  # columns of the search sheet


def figures(result: StageResult[CoarseMetrics], stage_dir: Path) -> dict[str, Figure]:
    """Draw the search sheet, the learning curves, and what mattered."""
    trials = artifacts.trials(stage_dir, result.metrics.score_key)
    sheets = {
        "search": search_sheet(trials, result),
        "curves": curves_sheet(trials, stage_dir, score=result.metrics.score_key),
    }
    return sheets | importance.sheets(result, trials)


def search_sheet(trials: Sequence[Row], result: StageResult[Any]) -> Figure:
    """Draw one panel per searched key: best val score against its values, coloured by the score."""
    score = words_of(result.metrics.score_key)
    keys = by_importance(result, artifacts.searched(trials))
    panels = max(1, len(keys))
    columns = panels if panels <= PANELS else 2 if panels == 4 else PANELS
    rows = -(-panels // columns)
    title = f"Best val {score} of each trial over each searched key"
    figure, axes = style.sheet(title, columns=columns, rows=rows)
    flat = [ax for row in axes for ax in row]
    known = [row["val_score"] for row in trials if row["val_score"] is not None]
    for ax in flat[panels:]:
        ax.set_visible(False)
    if not keys or not known:
        style.empty(flat[0], "no key took more than one value" if known else f"no trial has a val {score}")
        return figure
    names = short_keys(keys)
    for index, (ax, key) in enumerate(zip(flat, keys, strict=False)):
        _panel(ax, key_axis(key, trials), trials, result, known)
        kept = get(result.choice, "space", key, default={})
        low, high = as_float(get(kept, "low")), as_float(get(kept, "high"))
        if low is not None and high is not None:
            left, right = ax.get_xlim()
            low = left if ax.get_xscale() == "log" and low <= 0 else low  # a logarithm has no 0
            ax.axvspan(low, high, color=style.GREEN, alpha=0.13, lw=0, label="searched next")
            ax.set_xlim(min(left, low), max(right, high))
        told = told_text(result, key)
        style.label(ax, names[key], with_unit(f"best val {score}") if index % columns == 0 else "", told)
    named = {name: handle for ax in flat for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), loc="outside lower left", ncols=3, fontsize=8.5, frameon=False)
    return figure


def _panel(
    ax: Axes, axis: KeyAxis, trials: Sequence[Row], result: StageResult[CoarseMetrics], known: Sequence[float]
) -> None:
    scores = [row["val_score"] for row in trials]
    low, high = style.value_range(known)
    gone = [x for x, y in zip(axis.places, scores, strict=True) if x is not None and y is None]
    for stopped, marker in ((False, "o"), (True, "v")):
        rows = zip(axis.places, scores, trials, strict=True)
        kept = [(x, y) for x, y, t in rows if None not in (x, y) and (t.get("status") == "stopped") == stopped]
        x, y = [a for a, _ in kept], [b for _, b in kept]
        look = {"cmap": style.VALUES, "vmin": low, "vmax": high, "edgecolors": style.BLACK, "linewidths": 0.5}
        if kept:
            ax.scatter(x, y, c=y, s=44, zorder=3, marker=marker, label="stopped early" if stopped else None, **look)
    place, word = artifacts.marked(result, trials)
    if place is not None and axis.places[place] is not None and scores[place] is not None:
        ring = {"s": 150, "facecolors": "none", "edgecolors": style.RED, "linewidths": 1.8, "zorder": 4}
        ax.scatter([axis.places[place]], [scores[place]], label=f"{word}, {fixed(scores[place])}", **ring)
    if gone:
        ax.scatter(gone, [low] * len(gone), marker="x", color=style.BLACK, s=40, zorder=3, label="diverged or failed")
    dress(ax, axis)


def curves_sheet(trials: Sequence[Row], stage_dir: Path, chosen: str | None = None, score: str = "accuracy") -> Figure:
    """Draw val loss and val score of every trial by epoch; the better the trial, the brighter its colour.

    The `chosen` trial stands out; without it, the best does.
    """
    import matplotlib
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    words = words_of(score)
    figure, ((left, right),) = style.sheet(f"Val loss and val {words} of each trial, by epoch", columns=2)
    known = [row["val_score"] for row in trials if row["val_score"] is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    scale = Normalize(low, high if high > low else low + 1e-3)
    colours = matplotlib.colormaps[style.VALUES]
    best = artifacts.best_of(trials)
    winning = chosen if chosen is not None or best is None else trials[best]["trial"]
    ordered = sorted(trials, key=artifacts.rank)
    drawn = 0
    tops: list[float] = []
    ends: dict[str, list[tuple[float, float]]] = {"loss": [], score: []}
    for row in ordered:
        rows = artifacts.curve(stage_dir, row["trial"])
        winner = winning is not None and row["trial"] == winning
        colour = style.GREY if row["val_score"] is None else colours(scale(row["val_score"]))
        for ax, metric in ((left, "loss"), (right, score)):
            x, y = style.pairs(*artifacts.column(rows, "val", "epoch", metric))
            if not x:
                continue
            drawn += 1
            ax.plot(
                x,
                y,
                color=style.RED if winner else colour,
                linewidth=2.4 if winner else 1.1,
                marker="o",
                markersize=4 if winner else 2.5,
                label=f"{'best' if chosen is None else 'chosen'} trial, {row['trial']}" if winner else None,
                zorder=4 if winner else 2,
            )
            if row.get("status") == "stopped":
                ends[metric].append((x[-1], y[-1]))
            if metric == "loss":
                tops.append(y[0])
    if not drawn:
        style.empty(left, "no val curve was written")
        style.empty(right, "no val curve was written")
        return figure
    if tops:
        bottom, highest = left.get_ylim()
        left.set_ylim(max(0.0, bottom), min(highest, sorted(tops)[len(tops) // 2] * 2))
    for ax, places in ((left, ends["loss"]), (right, ends[score])):
        if places:
            look = {"marker": "|", "s": 40, "color": style.BLACK, "linewidths": 1.4, "zorder": 3}
            ax.scatter(*zip(*places, strict=True), label=f"stopped early, {plural(len(places), 'trial')}", **look)
    for ax, text in (
        (left, with_unit("val loss", artifacts.loss_in_nats(stage_dir))),
        (right, with_unit(f"val {words}")),
    ):
        style.whole_x(ax)
        style.label(ax, "epoch", text)
        style.legend(ax)
    if len(known) > 1:
        bar = figure.colorbar(ScalarMappable(scale, colours), ax=right, pad=0.02)
        bar.set_label(f"best val {words}", fontsize=9)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
    return figure
