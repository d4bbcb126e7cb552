"""Step 4: val accuracy over the searched keys, and the learning curves of all trials."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.view import artifacts
from tuner.view.artifacts import Row, get
from tuner.view.plots import style
from tuner.view.plots.style import Figure
from tuner.view.words import as_float, fixed, number, short_keys

PANELS = 3  # columns of the search sheet
LOG_KEYS = ("lr", "weight_decay", "eps")  # quantities whose ratios matter
VALUES_NAMED = 5  # values of a key up to which the axis names each of them


def figures(result: Mapping[str, Any], stage_dir: Path) -> dict[str, Figure]:
    """Draw the search sheet and the learning curves."""
    trials = artifacts.trials(stage_dir)
    title = style.headline(result)
    return {"search": search_sheet(title, trials, result), "curves": curves_sheet(title, trials, stage_dir)}


def search_sheet(title: str, trials: Sequence[Row], result: Mapping[str, Any]) -> Figure:
    """Draw one panel per searched key: best val accuracy against its values, coloured by the accuracy."""
    keys = artifacts.searched(trials)
    panels = max(1, len(keys))
    columns = panels if panels <= PANELS else 2 if panels == 4 else PANELS
    rows = -(-panels // columns)
    figure, axes = style.sheet(title, columns=columns, rows=rows)
    flat = [ax for row in axes for ax in row]
    scores = [row["val_accuracy"] for row in trials]
    known = [score for score in scores if score is not None]
    for ax in flat[panels:]:
        ax.set_visible(False)
    if not keys or not known:
        style.empty(flat[0], "no key took more than one value" if known else "no trial has a val accuracy")
        return figure
    names = short_keys(keys)
    for index, (ax, key) in enumerate(zip(flat, keys, strict=False)):
        _panel(ax, key, trials, scores, known)
        kept = get(result, "choice", "space", key, default={})
        low, high = as_float(get(kept, "low")), as_float(get(kept, "high"))
        if low is not None and high is not None:
            ax.axvspan(low, high, color=style.GREEN, alpha=0.13, lw=0, label="searched next")
        style.label(ax, names[key], "best val accuracy [fraction]" if index % columns == 0 else "")
    named = {name: handle for ax in flat for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named.keys(), loc="outside lower left", ncols=3, fontsize=8.5, frameon=False)
    return figure


def _panel(ax: Any, key: str, trials: Sequence[Row], scores: Sequence[Any], known: Sequence[float]) -> None:
    values = [row.get(key) for row in trials]
    as_numbers = [as_float(value) for value in values]
    options: list[str] = []
    if any(x is None and value is not None for x, value in zip(as_numbers, values, strict=True)):
        options = sorted({str(value) for value in values if value is not None})
        as_numbers = [float(options.index(str(value))) if value is not None else None for value in values]
    best = max(known)
    shown = [(x, y) for x, y in zip(as_numbers, scores, strict=True) if x is not None and y is not None]
    gone = [x for x, y in zip(as_numbers, scores, strict=True) if x is not None and y is None]
    x, y = [a for a, _ in shown], [b for _, b in shown]
    low = min(known) if best - min(known) > 1e-9 else best - 0.01
    ax.scatter(
        x, y, c=y, cmap=style.VALUES, vmin=low, vmax=best, s=44, edgecolors=style.BLACK, linewidths=0.5, zorder=3
    )
    place = artifacts.best_of(trials)
    best_x = as_numbers[place] if place is not None else None
    if best_x is not None:
        ring = {"s": 150, "facecolors": "none", "edgecolors": style.RED, "linewidths": 1.8, "zorder": 4}
        ax.scatter([best_x], [best], label=f"best, {fixed(best)}", **ring)
    if gone:
        ax.scatter(gone, [low] * len(gone), marker="x", color=style.BLACK, s=40, zorder=3, label="diverged or failed")
    if options:
        ax.set_xticks(range(len(options)), [style.safe(option[:16]) for option in options])
        ax.set_xlim(-0.5, len(options) - 0.5)
        return
    places = sorted({value for value in as_numbers if value is not None})
    if style.spans_decades(places, factor=2 if key.rsplit(".", 1)[-1] in LOG_KEYS else 8):
        ax.set_xscale("log")
        style.log_axis(ax.xaxis)
    elif len(places) <= VALUES_NAMED and _apart(places):
        ax.set_xticks(places, [number(place) for place in places])
        pad = 0.25 * (places[-1] - places[0]) or 0.5
        ax.set_xlim(places[0] - pad, places[-1] + pad)


def _apart(places: Sequence[float]) -> bool:
    """Say whether labels at these places would not run into each other."""
    span = places[-1] - places[0]
    return all(right - left >= 0.15 * span for left, right in itertools.pairwise(places))


def curves_sheet(title: str, trials: Sequence[Row], stage_dir: Path, chosen: Any = None) -> Figure:
    """Draw val loss and val accuracy of every trial by epoch; the better the trial, the brighter its colour.

    The `chosen` trial stands out; without it, the best does.
    """
    import matplotlib
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure, ((left, right),) = style.sheet(title, columns=2)
    known = [row["val_accuracy"] for row in trials if row["val_accuracy"] is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    scale = Normalize(low, high if high > low else low + 1e-3)
    colours = matplotlib.colormaps[style.VALUES]
    ordered = sorted(trials, key=lambda row: -1.0 if row["val_accuracy"] is None else row["val_accuracy"])
    drawn = 0
    tops: list[float] = []
    for row in ordered:
        rows = artifacts.curve(stage_dir, row["trial"])
        winner = row is ordered[-1] if chosen is None else row["trial"] == chosen
        colour = style.GREY if row["val_accuracy"] is None else colours(scale(row["val_accuracy"]))
        for ax, metric in ((left, "loss"), (right, "accuracy")):
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
            if metric == "loss":
                tops.append(y[0])
    if not drawn:
        style.empty(left, "no val curve was written")
        style.empty(right, "no val curve was written")
        return figure
    if tops:
        bottom, highest = left.get_ylim()
        left.set_ylim(max(0.0, bottom), min(highest, sorted(tops)[len(tops) // 2] * 2))
    for ax, text in ((left, "val loss [nats]"), (right, "val accuracy [fraction]")):
        style.whole_x(ax)
        style.label(ax, "epoch", text)
        style.legend(ax)
    if len(known) > 1:
        bar = figure.colorbar(ScalarMappable(scale, colours), ax=right, pad=0.02)
        bar.set_label("best val accuracy", fontsize=9)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
    return figure
