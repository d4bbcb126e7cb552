"""Step 3: loss against learning rate, and the curves behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.core import formatting
from tuner.core.metrics import LrSweepMetrics, SweptLr
from tuner.core.result import StageResult
from tuner.view import artifacts
from tuner.view.artifacts import get
from tuner.view.plots import style
from tuner.view.plots.style import Axes, Figure
from tuner.view.text import as_float, rate, with_unit

TITLE = "The loss under each learning rate, and where it ends"


def figures(result: StageResult[LrSweepMetrics], stage_dir: Path) -> dict[str, Figure]:
    """Draw the drop of the loss with its spread, the band and the chosen rate; and the loss of every rate by step."""
    rates = [entry for entry in result.metrics.rates if as_float(entry.lr)]
    figure, ((left, right),) = style.sheet(TITLE, columns=2, panel=(5.0, 4.0))
    _drop(left, rates, result.choice, artifacts.loss_in_nats(stage_dir))
    _curves(right, rates, result.metrics.trials, stage_dir)
    handles = left.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower left", ncols=3, fontsize=8.5, frameon=False)  # off the curve
    return {"lr-sweep": figure}


def _drop(ax: Axes, rates: Sequence[SweptLr], choice: Mapping[str, Any], nats: bool) -> None:
    if not rates:
        style.empty(ax, "no rate was measured")
        return
    ax.set_xscale("log")
    low, high, chosen = (as_float(get(choice, key)) for key in ("lr_low", "lr_high", "lr"))
    if low and high:
        ax.axvspan(low, high, color=style.GREEN, alpha=0.15, label=f"falls clearly, {rate(low)} to {rate(high)}", lw=0)
    if chosen:
        ax.axvline(chosen, color=style.RED, linewidth=1.8, linestyle="--", label=f"use {rate(chosen)}")
    x = [as_float(entry.lr) for entry in rates]
    key = "drop" if any(as_float(entry.drop) is not None for entry in rates) else "final_loss"
    y = [as_float(getattr(entry, key)) for entry in rates]
    spread = {float(a): as_float(getattr(entry, f"{key}_std")) or 0.0 for a, entry in zip(x, rates, strict=True) if a}
    places, heights = style.pairs(x, y)
    errors = [spread[place] for place in places]
    ax.errorbar(
        places,
        heights,
        yerr=errors,
        fmt="o-",
        color=style.BLUE,
        capsize=4,
        markersize=6,
        label="mean, +- std where there are several seeds",
    )
    failed = [entry.status == "diverged" or getattr(entry, key) is None for entry in rates]
    gone = [lr for lr, bad in zip(x, failed, strict=True) if bad and lr is not None]
    if gone:
        floor = min([0.0, *heights])
        ax.scatter(gone, [floor] * len(gone), marker="x", s=60, color=style.BLACK, zorder=4, label="diverged")
    kept = [value for value in x if value]
    ax.set_xlim(min(kept) / 2, max(kept) * 2)
    style.log_axis(ax.xaxis)
    if key == "drop":
        ax.axhline(0, color=style.GREY, linewidth=0.8)
        if (top := max(heights, default=0.0)) > 0 and min(heights) < -top:  # one rate that blew up hides all others
            ax.set_ylim(-top, 1.15 * max(h + e for h, e in zip(heights, errors, strict=True) if h > 0))
    style.label(ax, "learning rate", with_unit("drop of the loss" if key == "drop" else "final loss", nats), "By rate")


def _curves(ax: Axes, rates: Sequence[SweptLr], trials: Mapping[str, Sequence[str]], stage_dir: Path) -> None:
    import matplotlib

    ids = {as_float(key): value for key, value in trials.items()}
    colours = matplotlib.colormaps[style.VALUES]
    known = [lr for entry in rates if (lr := as_float(entry.lr)) is not None]
    texts = dict(zip(known, formatting.rates(known), strict=True))  # as the ticks beside them
    drawn, starts, lows = 0, [], []
    for index, entry in enumerate(rates):
        lr = as_float(entry.lr)
        label = None if lr is None else texts[lr]
        for trial in ids.get(lr, ()):
            x, y = style.pairs(*artifacts.column(artifacts.curve(stage_dir, trial), "train", "step", "loss"))
            if not x:
                continue
            colour = colours(0.92 * index / max(len(rates) - 1, 1))
            ax.plot(x, smooth(y), color=colour, linewidth=1.4, alpha=0.9, label=label)
            label, drawn = None, drawn + 1
            starts.append(y[0])
            lows.append(min(y))
    if not drawn:
        style.empty(ax, "no loss curve was written")
        return
    top, low = max(starts), min(lows)
    columns = min(3, 1 + (len(rates) - 1) // 3)
    lines = 1 + math.ceil(len(rates) / columns)  # of the legend, which lies above where the losses begin
    # what shoots up leaves the picture; what falls is what matters
    ax.set_ylim(low - 0.08 * (top - low), top + 0.115 * lines * (top - low) + 1e-3)
    style.label(ax, "step", with_unit("loss, mean of 5 steps", artifacts.loss_in_nats(stage_dir)), "By step")
    style.legend(ax, title="learning rate", title_fontsize=8.5, ncols=columns, loc="upper right")


def smooth(values: list[float], window: int = 5) -> list[float]:
    """Return the running mean of the last `window` values; for reading only."""
    return [
        sum(values[max(0, i + 1 - window) : i + 1]) / len(values[max(0, i + 1 - window) : i + 1])
        for i in range(len(values))
    ]
