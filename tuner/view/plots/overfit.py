"""Step 2: loss and accuracy on the tiny subset, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.view import artifacts
from tuner.view.artifacts import get
from tuner.view.plots import style
from tuner.view.words import as_float, rate, scientific

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figures(result: Mapping[str, Any], stage_dir: Path) -> dict[str, Figure]:
    """Draw the loss with the floor it must reach, and the accuracy."""
    metrics = get(result, "metrics", default={})
    rows = artifacts.curve(stage_dir, get(metrics, "trial"))
    figure, ((left, right),) = style.sheet(style.headline(result), columns=2)
    lr = as_float(get(metrics, "lr"))
    title = f"Loss at lr {rate(lr)}" if lr is not None else "Loss"
    _loss(left, rows, as_float(get(metrics, "loss_floor")), title)
    drawn = 0
    for split, name, colour in (("train", "training batches", style.SKY), ("train_eval", "eval mode", style.BLUE)):
        x, y = style.pairs(*artifacts.column(rows, split, "step", "accuracy"))
        if x:
            right.plot(x, y, color=colour, linewidth=1.6, marker="o" if len(x) < 30 else None, markersize=4, label=name)
            drawn += 1
    final = as_float(get(metrics, "final_accuracy"))
    if not drawn and final is not None:
        right.axhline(final, color=style.BLUE, label=f"at the end, {final:.3f}")
    right.axhline(1.0, color=style.RED, linestyle="--", linewidth=1.2, label="every example right")
    right.set_ylim(-0.03, 1.08)
    style.label(right, "step", "accuracy [fraction]", "Accuracy on the subset")
    style.legend(right, loc="lower right")
    return {"overfit": figure}


def _loss(ax: Any, rows: list[dict[str, Any]], floor: float | None, title: str) -> None:
    values: list[float] = []
    for split, name, colour in (("train", "objective", style.BLUE), ("train_eval", "eval mode", style.ORANGE)):
        x, y = style.pairs(*artifacts.column(rows, split, "step", "loss"))
        if x:
            ax.plot(x, y, color=colour, linewidth=1.6, marker="o" if len(x) < 3 else None, label=name)
            values += y
    if not values:
        style.empty(ax, "no loss curve was written")
        return
    if floor is not None:
        text = "0" if floor == 0 else scientific(floor) if abs(floor) < 1e-3 else f"{floor:.3f}"
        shown = floor if floor > 0 or not style.spans_decades(values) else None
        if shown is not None:
            ax.axhline(shown, color=style.RED, linestyle="--", linewidth=1.2, label=f"floor, {text}")
    if style.spans_decades(values):
        ax.set_yscale("log")
        style.log_axis(ax.yaxis)
    style.label(ax, "step", "loss [nats]", title)
    style.legend(ax)
