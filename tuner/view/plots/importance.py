"""What mattered: each key's share of the scores' variance, the map of two keys with its projections, and all keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tuner.core.result import StageResult
from tuner.view import artifacts
from tuner.view.artifacts import Row
from tuner.view.importance import entries, map_keys, sentence, told_text
from tuner.view.plots import keys as axes
from tuner.view.plots import style
from tuner.view.plots.style import Axes, Figure
from tuner.view.text import as_float, fixed, short_keys, words_of

SHARES = "What mattered: each key's share of the variance of the scores"


def sheets(result: StageResult[Any], trials: Sequence[Row]) -> dict[str, Figure]:
    """Draw the sheets that the trials allow: importance, map of two keys, parallel coordinates."""
    found = {}
    if any(as_float(entry.importance) is not None for entry in entries(result)):
        found["importance"] = importance_sheet(SHARES, result)
    scored = [row for row in trials if row["val_score"] is not None]
    searched = axes.by_importance(result, artifacts.searched(trials))
    if len(scored) > 1 and len(searched) > 1:
        found["map"] = map_sheet(map_title(result, *map_keys(searched, trials)), result, trials, searched)
        found["parallel"] = parallel_sheet(result, trials, searched)
    return found


def map_title(result: StageResult[Any], across: str, up: str) -> str:
    """Say what the two keys of the map are: what matters most and least, where that can be told."""
    names = short_keys([across, up])
    matters = any(entry.key == across and entry.enough for entry in entries(result))
    return f"The trials over {names[across]}{', which matters most,' if matters else ''} and {names[up]}"


def importance_sheet(title: str, result: StageResult[Any]) -> Figure:
    """Draw a bar per key with its 95 % interval; a key that cannot be distinguished from chance is an empty bar."""
    found = entries(result)
    figure, ((ax,),) = style.sheet(title, panel=(7.2, 1.3 + 0.42 * len(found)))
    names = short_keys([entry.key for entry in found])
    for place, entry in enumerate(found):
        value, low, high = (as_float(getattr(entry, name)) for name in ("importance", "low", "high"))
        told = bool(entry.enough)
        if value is not None and low is not None and high is not None:
            look = {"color": style.BLUE} if told else {"facecolor": "none", "edgecolor": style.GREY, "linestyle": "--"}
            ax.barh([place], [value], height=0.55, **look)
            ax.plot([low, high], [place, place], color=style.BLACK, linewidth=1.4, zorder=3)
        ends = [end for end in (value, high) if end is not None]
        ax.annotate(
            fixed(value, 2) if told else "not distinguishable",
            (max(ends, default=0.0), place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=style.BLACK if told else style.GREY,
        )
    ax.set_yticks(range(len(found)), [style.safe(names[entry.key]) for entry in found])
    ax.set_ylim(len(found) - 0.5, -0.5)
    ax.set_xlim(0, 1.18)
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
    ax.grid(False, axis="y")
    style.label(ax, f"share of the scores' variance; line: 95 % interval ({sentence(result)})", "")
    return figure


def map_sheet(title: str, result: StageResult[Any], trials: Sequence[Row], searched: Sequence[str]) -> Figure:
    """Draw the trials over the most and the least important key, and the val score against each on the margins.

    What matters shows in its projection as a shape; what does not is a cloud. A grid of these trials would have tried
    few values of the key that matters.
    """
    across, up = map_keys(searched, trials)
    ratios = {"width_ratios": (3, 1.25), "height_ratios": (1.25, 3)}
    figure, ((top, corner), (ax, right)) = style.sheet(title, 2, 2, panel=(3.9, 3.1), gridspec_kw=ratios)
    corner.axis("off")
    x, y = axes.key_axis(across, trials), axes.key_axis(up, trials)
    names, score = short_keys(searched), words_of(result.metrics.score_key)
    scores = [row["val_score"] for row in trials]
    mark, word = artifacts.marked(result, trials)
    points = [_points(x.places, y.places, trials, status) for status in (False, True)]
    low, high = style.value_range([score for score in scores if score is not None])
    image = None
    for found, marker in zip(points, ("o", "v"), strict=True):
        if found:
            colours = [score for _, _, score in found]
            look = {"cmap": style.VALUES, "vmin": low, "vmax": high, "s": 52, "zorder": 3, "clip_on": False}
            place = [a for a, _, _ in found], [b for _, b, _ in found]
            image = ax.scatter(*place, c=colours, marker=marker, edgecolors=style.BLACK, linewidths=0.5, **look)
    gone = [(a, b) for a, b, s in zip(x.places, y.places, scores, strict=True) if s is None and None not in (a, b)]
    if gone:
        ax.scatter(*zip(*gone, strict=True), marker="x", color=style.BLACK, s=36, zorder=3, label="diverged or failed")
    if mark is not None and x.places[mark] is not None and y.places[mark] is not None:
        ring = {"s": 170, "facecolors": "none", "edgecolors": style.RED, "linewidths": 1.8, "zorder": 4}
        ax.scatter([x.places[mark]], [y.places[mark]], label=f"{word}, {fixed(scores[mark])}", **ring)
    axes.dress(ax, x)
    axes.dress(ax, y, "y")
    _margin(top, x, trials, flat=True)
    _margin(right, y, trials, flat=False)
    style.label(ax, names[across], names[up])
    said = {key: told_text(result, key).removeprefix("importance: ") for key in (across, up)}
    style.label(top, "", f"val {score}", f"{names[across]}: {said[across]}" if said[across] else names[across])
    style.label(right, f"val {score}", "", f"{names[up]}:\n{said[up]}" if said[up] else names[up])
    if image is not None:
        bar = figure.colorbar(image, cax=corner.inset_axes((0.0, 0.55, 0.95, 0.1)), orientation="horizontal")
        bar.set_label(f"best val {score}", fontsize=9)
        bar.ax.tick_params(labelsize=8)
        bar.ax.locator_params(nbins=4)
        bar.outline.set_visible(False)
    if points[1]:
        ax.scatter([], [], marker="v", facecolors="none", edgecolors=style.BLACK, s=40, label="stopped early")
    handles = ax.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower left", ncols=3, fontsize=8.5, frameon=False)
    return figure


def _points(
    x: Sequence[float | None], y: Sequence[float | None], trials: Sequence[Row], stopped: bool
) -> list[tuple[float, float, float]]:
    """Return (x, y, score) of the trials that have all three and were stopped at a rung, or were not; the best last,
    which is drawn on top.
    """
    rows = zip(x, y, trials, strict=True)
    return [
        (a, b, row["val_score"])
        for a, b, row in sorted(rows, key=lambda found: artifacts.rank(found[2]))
        if a is not None and b is not None and row["val_score"] is not None
        if (row.get("status") == "stopped") == stopped
    ]


def _margin(ax: Axes, axis: axes.KeyAxis, trials: Sequence[Row], flat: bool) -> None:
    """Draw the val score against one key alone: above the map (`flat`) or at its right."""
    for stopped, marker in ((False, "o"), (True, "v")):
        found = _points(axis.places, axis.places, trials, stopped)
        places, scores = [a for a, _, _ in found], [score for _, _, score in found]
        fill = {"facecolors": "none", "edgecolors": style.GREY} if stopped else {"color": style.BLUE}
        ax.scatter(*((places, scores) if flat else (scores, places)), s=22, marker=marker, zorder=3, **fill)
    axes.dress(ax, axis, "x" if flat else "y")
    ax.tick_params(**{"labelbottom" if flat else "labelleft": False})
    if not flat:
        ax.locator_params(axis="x", nbins=3)


def parallel_sheet(result: StageResult[Any], trials: Sequence[Row], searched: Sequence[str]) -> Figure:
    """Draw one line per trial through its values, the most important key first and the val score last."""
    import matplotlib
    from matplotlib.colors import Normalize

    columns = [*(axes.key_axis(key, trials) for key in searched), axes.key_axis("val_score", trials, linear=True)]
    score = words_of(result.metrics.score_key)
    names = [*(short_keys(searched)[key] for key in searched), f"best val\n{score}"]
    title = f"Each trial: one line through its values to its val {score}"
    figure, ((ax,),) = style.sheet(title, panel=(max(7.2, 1.5 * len(columns)), 4.2))
    scores = [row["val_score"] for row in trials]
    scale = Normalize(*style.value_range([score for score in scores if score is not None]))
    colours = matplotlib.colormaps[style.VALUES]
    mark, word = artifacts.marked(result, trials)
    order = sorted(range(len(trials)), key=lambda i: artifacts.rank(trials[i]))
    for i in order:
        x, y = [], []
        for place, column in enumerate(columns):
            value = column.places[i]
            x.append(float(place))
            y.append(float("nan") if value is None else column.share(value))
        if scores[i] is None:
            look: dict[str, Any] = {"color": style.GREY, "linestyle": ":", "linewidth": 1.0}
        elif i == mark:
            look = {"color": style.RED, "linewidth": 2.4, "zorder": 4, "label": f"{word}, {fixed(scores[i])}"}
        else:
            look = {"color": colours(scale(scores[i])), "linewidth": 1.3}
            look["linestyle"] = "--" if trials[i].get("status") == "stopped" else "-"
        ax.plot(x, y, marker="o", markersize=3, **look)
    chosen = [] if mark is None else [_share(column, mark) for column in columns]
    for place, column in enumerate(columns):
        ax.axvline(place, color=style.GREY, linewidth=0.9, zorder=1)
        for value, text in column.labels():
            box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6}
            at = (place, column.share(value))
            side = _side_of(at, chosen, len(columns))
            look = {"xytext": (5 * side, 0), "textcoords": "offset points", "ha": "left" if side > 0 else "right"}
            ax.annotate(
                style.safe(text), at, fontsize=8, zorder=3, bbox=box, annotation_clip=False, va="center", **look
            )
    ax.set_xticks(range(len(names)), [style.safe(name) for name in names])
    ax.set_xlim(-0.45, len(names) - 0.55)
    ax.set_yticks([])
    ax.set_ylim(-0.06, 1.06)
    ax.grid(False)
    ax.spines[["left", "bottom"]].set_visible(False)
    if any(row.get("status") == "stopped" for row in trials):
        ax.plot([], [], color=style.GREY, linestyle="--", label="stopped early")
    if any(score is None for score in scores):
        ax.plot([], [], color=style.GREY, linestyle=":", label="diverged or failed")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=3, fontsize=8.5, frameon=False)
    return figure


def _share(column: axes.KeyAxis, trial: int) -> float:
    value = column.places[trial]
    return float("nan") if value is None else column.share(value)


def _side_of(at: tuple[int, float], chosen: Sequence[float], columns: int) -> int:
    """Return the side of its axis on which a value is named: -1 is left. Outside where the lines end, else where the
    chosen trial's line is further away.
    """
    place, share = at
    if place in (0, columns - 1) or not chosen:
        return -1 if place == 0 else 1
    reach = 0.18  # of the way to the next axis, which a name takes up
    left, right = (chosen[place] + reach * (chosen[place + step] - chosen[place]) for step in (-1, 1))
    return -1 if abs(left - share) > abs(right - share) else 1
