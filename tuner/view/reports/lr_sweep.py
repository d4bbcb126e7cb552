"""Step 3: what 100 iterations at each learning rate do to the loss."""

from __future__ import annotations

from pathlib import Path

from tuner.core.metrics import LrSweepMetrics
from tuner.core.result import StageResult
from tuner.view.blocks import Blocks
from tuner.view.curves import Mark, Series
from tuner.view.text import fixed, is_number, number, plus_minus, rate

TITLE = "STEP 3  learning-rate sweep"

HIGH = 2.0  # times the loss before training: what rises further is drawn at the top


def body(result: StageResult[LrSweepMetrics], stage_dir: Path, page: Blocks) -> None:
    """Show a row per rate, the band and the chosen rate, and loss against rate."""
    rates = result.metrics.rates
    chosen = result.choice.get("lr")
    low, high = result.choice.get("lr_low"), result.choice.get("lr_high")
    steps = result.metrics.steps
    loss_head = f"loss at step {number(steps)}" if steps else "final loss"
    rows, styles = [], []
    for entry in rates:
        ok = entry.status == "completed"
        loss = plus_minus(entry.final_loss, entry.final_loss_std)
        drop = plus_minus(entry.drop, entry.drop_std)
        rows.append([rate(entry.lr), loss if ok or loss != "-" else "diverged", drop, entry.verdict])
        inside = low is not None and high is not None and low <= entry.lr <= high
        styles.append("" if inside else "dim")
    page.table(
        ["lr", loss_head, "drop", "verdict"],
        rows,
        left=(0, 1, 2, 3),
        styles=styles,
    )
    page.gap()
    if chosen is not None:
        precision = result.choice.get("precision")
        why = "the geometric middle of the lrs that reach 80 % of the best drop"
        page.text(f"{rate(chosen)} is {why}." + (f" {precision} from here on." if precision else ""), 3)
    x = [entry.lr for entry in rates]
    y = [entry.final_loss for entry in rates]
    before = rates[0].first_loss if rates else None
    if before is not None:  # one rate that blew up would press all others flat
        y = [None if value is not None and value > HIGH * before else value for value in y]
    gone = [lr if value is None else None for lr, value in zip(x, y, strict=True)]
    series = [Series("loss after the sweep", x, y)]
    if any(lr is not None for lr in gone):
        series.append(Series("diverged, or above", gone, [None] * len(gone), glyph="x", line=False, at_top=True))
    page.plot(
        "Loss at the end of the sweep, by learning rate",
        series,
        height=10,
        log_x=True,
        x_label="learning rate",
        y_label="loss",
        levels=[Mark(before, f"before training, {fixed(before)}")] if is_number(before) else [],
        places=[Mark(chosen, f"chosen, {rate(chosen)}")] if is_number(chosen) else [],
    )
