"""Step 2: loss and accuracy on the tiny subset, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuner.core.metrics import OverfitMetrics
from tuner.core.result import StageResult
from tuner.view import artifacts
from tuner.view.plots import style
from tuner.view.plots.style import Axes, Figure
from tuner.view.text import as_float, number, rate, spans_decades, with_unit


def figures(result: StageResult[OverfitMetrics], stage_dir: Path) -> dict[str, Figure]:
    """Draw the loss with the floor it must reach, and the accuracy where the task has one."""
    metrics = result.metrics
    rows = artifacts.curve(stage_dir, metrics.trial)
    if metrics.final_accuracy is None and not any(row.get("accuracy") is not None for row in rows):
        figure, ((ax,),) = style.sheet("Loss on the tiny subset, by step")
        _loss(ax, rows, metrics, "" if metrics.lr is None else f"Loss at lr {rate(metrics.lr)}")
        style.label(ax, "step", with_unit("loss", artifacts.loss_in_nats(stage_dir)))
        return {"overfit": figure}
    figure, ((left, right),) = style.sheet("Loss and accuracy on the tiny subset, by step", columns=2)
    lr = as_float(metrics.lr)
    title = f"Loss at lr {rate(lr)}" if lr is not None else "Loss"
    _loss(left, rows, metrics, title)
    style.label(left, "step", with_unit("loss", artifacts.loss_in_nats(stage_dir)), title)
    drawn = 0
    for split, name, colour in (("train", "training batches", style.SKY), ("train_eval", "eval mode", style.BLUE)):
        x, y = style.pairs(*artifacts.column(rows, split, "step", "accuracy"))
        if split == "train_eval":
            x, y = _to_the_end(x, y, metrics.steps, metrics.eval_accuracy)
        if x:
            right.plot(x, y, color=colour, linewidth=1.6, marker="o" if len(x) < 30 else None, markersize=4, label=name)
            drawn += 1
    final = as_float(metrics.final_accuracy)
    if not drawn and final is not None:
        right.axhline(final, color=style.BLUE, label=f"at the end, {final:.3f}")
    right.axhline(1.0, color=style.RED, linestyle="--", linewidth=1.2, label="every example right")
    right.set_ylim(-0.03, 1.08)
    right.set_xlim(left.get_xlim())
    style.label(right, "step", "accuracy [fraction]", "Accuracy on the subset")
    style.legend(right, loc="lower right")
    return {"overfit": figure}


def _to_the_end(
    x: list[float], y: list[float], steps: int | None, value: float | None
) -> tuple[list[float], list[float]]:
    """Return what was measured in eval mode now and then, up to the last measurement, which the report gives."""
    if steps is None or value is None or (x and x[-1] >= steps):
        return x, y
    return [*x, float(steps)], [*y, value]


def _loss(ax: Axes, rows: list[dict[str, Any]], metrics: OverfitMetrics, title: str) -> None:
    values: list[float] = []
    for split, name, colour in (("train", "objective", style.BLUE), ("train_eval", "eval mode", style.ORANGE)):
        x, y = style.pairs(*artifacts.column(rows, split, "step", "loss"))
        if split == "train_eval":
            x, y = _to_the_end(x, y, metrics.steps, metrics.eval_loss)
        if x:
            ax.plot(x, y, color=colour, linewidth=1.6, marker="o" if len(x) < 10 else None, markersize=4, label=name)
            values += y
    if not values:
        style.empty(ax, "no loss curve was written")
        return
    levels = (("loss_floor", "floor", style.RED), ("target", "counts as reaching the floor", style.GREEN))
    for key, name, colour in levels:
        level = as_float(getattr(metrics, key))
        if level is not None and (level > 0 or not spans_decades(values)):
            ax.axhline(level, color=colour, linestyle="--", linewidth=1.2, label=f"{name}, {number(level, 3)}")
    if spans_decades(values):
        ax.set_yscale("log")
        style.log_axis(ax.yaxis)
    style.label(ax, "step", "loss", title)
    style.legend(ax, loc="best")
