"""Step 2: how far the loss of a tiny subset was driven down, and at which rate."""

from __future__ import annotations

from pathlib import Path

from tuner.core.metrics import OverfitMetrics, TriedLr
from tuner.core.result import StageResult
from tuner.view import artifacts
from tuner.view.blocks import Blocks
from tuner.view.curves import Mark, Series
from tuner.view.text import fixed, is_number, number, rate

TITLE = "STEP 2  overfit a tiny subset"
ENDS = {"floor": "reached the floor", "steps": "still falling at the end", "plateau": "stuck"}


def body(result: StageResult[OverfitMetrics], stage_dir: Path, page: Blocks) -> None:
    """Show every rate's outcome and the loss curve of the best one, with the floor it must reach."""
    metrics = result.metrics
    rates = metrics.rates
    chosen = metrics.lr
    entries = rates or [TriedLr(chosen, metrics.final_loss, metrics.final_accuracy, metrics.steps)]
    rows = [
        [
            rate(entry.lr) + (" *" if len(rates) > 1 and entry.lr == chosen and chosen is not None else ""),
            number(entry.steps),
            fixed(entry.final_loss, 4),
            fixed(entry.final_accuracy),
            ENDS.get(entry.status, entry.status),
        ]
        for entry in entries
    ]
    kept = [0, 1, 2, *([3] if any(entry.final_accuracy is not None for entry in entries) else []), 4]
    headers = ["lr", "steps", "final loss", "accuracy", "status"]
    page.table([headers[i] for i in kept], [[row[i] for i in kept] for row in rows], left=(0, len(kept) - 1))
    page.gap()
    if text := " ".join(_facts(metrics, several=len(rates) > 1)):
        page.text(text, 3)
    _curve(metrics, stage_dir, page)


def _facts(metrics: OverfitMetrics, several: bool) -> list[str]:
    """Say in sentences how far the loss could fall, and how far it fell in either mode."""
    said = ["* is judged and drawn below."] if several else []
    of = f" of these {number(metrics.examples)} examples" if metrics.examples is not None else ""
    if is_number(metrics.loss_floor):
        said.append(f"The loss{of} can fall to {number(metrics.loss_floor)}.")
    elif metrics.examples is not None:
        said.append(f"There are {number(metrics.examples)} examples.")
    ends = [(metrics.train_mode_loss, "in train mode"), (metrics.eval_loss, "in eval mode")]
    parts = [f"at {fixed(loss, 4)} {mode}" for loss, mode in ends if is_number(loss)]
    right = f", with accuracy {fixed(metrics.eval_accuracy)}" if is_number(metrics.eval_accuracy) else ""
    return [*said, f"It ended {' and '.join(parts)}{right}."] if parts else said


def _curve(metrics: OverfitMetrics, stage_dir: Path, page: Blocks) -> None:
    rows = artifacts.curve(stage_dir, metrics.trial)
    x, y = artifacts.column(rows, "train", "step", "loss")
    positive = [value for value in y if value is not None and value > 0]
    log = bool(positive) and max(positive) > 20 * min(positive)
    floor = metrics.loss_floor
    wanted = ((floor, "the floor"), (metrics.target, "counts as the floor"))
    shown = [Mark(value, f"{name}, {number(value, 3)}") for value, name in wanted if is_number(value)]
    levels = [mark for mark in shown if not log or (mark.value or 0) > min(positive) / 100]
    label = "train loss (log scale)" if log else "train loss"
    page.plot(
        "Train loss on the tiny subset",
        [Series("", x, y)],
        height=9,
        log_y=log,
        x_label="step",
        y_label=label,
        levels=levels,
    )
