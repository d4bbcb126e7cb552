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
    examples = metrics.examples
    facts = ["* is judged and drawn below" if len(rates) > 1 else ""]
    facts.append(f"{number(examples)} examples" if examples is not None else "")
    floor = metrics.loss_floor
    facts.append(f"the loss can fall to {number(floor)}" if is_number(floor) else "")
    train_mode = metrics.train_mode_loss
    facts.append(f"in train mode the final loss is {fixed(train_mode, 4)}" if is_number(train_mode) else "")
    evaluated = metrics.eval_loss
    if is_number(evaluated):
        accuracy = "" if metrics.eval_accuracy is None else f", accuracy {fixed(metrics.eval_accuracy)}"
        facts.append(f"in eval mode {fixed(evaluated, 4)}{accuracy}")
    if text := "; ".join(fact for fact in facts if fact):
        page.text(text + ".", 3)
    _curve(metrics, stage_dir, page)


def _curve(metrics: OverfitMetrics, stage_dir: Path, page: Blocks) -> None:
    rows = artifacts.curve(stage_dir, metrics.trial)
    x, y = artifacts.column(rows, "train", "step", "loss")
    positive = [value for value in y if value is not None and value > 0]
    log = bool(positive) and max(positive) > 20 * min(positive)
    floor = metrics.loss_floor
    wanted = ((floor, "the floor"), (metrics.target, "counts as the floor"))
    shown = [Mark(value, name) for value, name in wanted if is_number(value)]
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
