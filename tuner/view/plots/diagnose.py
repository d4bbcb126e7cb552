"""Step 6: the winner's train and val curves, the gap shaded; what the confirming runs gained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tuner.core.metrics import ConfirmingRun, DiagnoseMetrics
from tuner.core.result import StageResult
from tuner.view import artifacts
from tuner.view.plots import style
from tuner.view.plots.style import Axes, Figure
from tuner.view.reports.diagnose import whose, winner_curve
from tuner.view.text import as_float, fixed, with_unit, words_of


def figures(result: StageResult[DiagnoseMetrics], stage_dir: Path) -> dict[str, Figure]:
    """Draw loss and score by epoch on val and on the train subset."""
    rows = winner_curve(result, stage_dir)
    best = as_float(result.metrics.best_epoch)
    figure, ((left, right),) = style.sheet(f"{whose(result).capitalize()} on val and on train, by epoch", columns=2)
    for ax, metric in ((left, "loss"), (right, result.metrics.score_key)):
        _curves(ax, rows, metric, best)
        style.label(ax, "epoch", with_unit(words_of(metric), artifacts.loss_in_nats(stage_dir)))
    arms = [arm for arm in result.metrics.confirming if arm.gain is not None]
    return {"curves": figure} | ({"confirming": _confirming(result, arms)} if arms else {})


def _confirming(result: StageResult[DiagnoseMetrics], arms: Sequence[ConfirmingRun]) -> Figure:
    """Draw what each confirming run gained over its control, with twice its noise to either side."""
    figure, ((ax,),) = style.sheet(style.headline(result))
    for place, arm in enumerate(reversed(arms)):
        colour = style.GREEN if arm.helps else style.GREY
        ax.errorbar(arm.gain, place, xerr=2 * (as_float(arm.noise) or 0.0), fmt="o", color=colour, capsize=4)
        words = "helps" if arm.helps else "not beyond noise"
        ax.annotate(words, (arm.gain, place), xytext=(0, 7), textcoords="offset points", fontsize=8.5, ha="center")
    ax.axvline(0.0, color=style.RED, linestyle="--", linewidth=1.2)
    ax.set_yticks(range(len(arms)), [style.safe(str(arm.arm)) for arm in reversed(arms)], fontsize=9)
    ax.set_ylim(-0.6, len(arms) - 0.2)
    style.label(ax, "gain in accuracy over the control [fraction], with twice its noise", "", "Confirming runs")
    return figure


def _curves(ax: Axes, rows: list[dict[str, Any]], metric: str, best: float | None) -> None:
    split = "train_eval" if any(row.get("split") == "train_eval" for row in rows) else "train"
    x_train, train = style.pairs(*artifacts.column(rows, split, "epoch", metric))
    x_val, val = style.pairs(*artifacts.column(rows, "val", "epoch", metric))
    if not x_train and not x_val:
        style.empty(ax, f"no {words_of(metric)} curve was written")
        return
    name = "train subset, eval mode" if split == "train_eval" else "train, running"
    ax.plot(x_train, train, "o-", color=style.BLUE, markersize=4, label=name)
    ax.plot(x_val, val, "s-", color=style.ORANGE, markersize=4, label="val")
    both = sorted(set(x_train) & set(x_val))
    if len(both) > 1:
        by_train, by_val = dict(zip(x_train, train, strict=True)), dict(zip(x_val, val, strict=True))
        low, high = [by_train[x] for x in both], [by_val[x] for x in both]
        ax.fill_between(both, low, high, color=style.ORANGE, alpha=0.15, label="gap")
    if best is not None:
        values = dict(zip(x_val, val, strict=True))
        text = f"best epoch, {best:.0f}" + (f": val {words_of(metric)} {fixed(values[best])}" if best in values else "")
        ax.axvline(best, color=style.RED, linestyle="--", linewidth=1.4, label=text)
    style.whole_x(ax)
    style.legend(ax)
