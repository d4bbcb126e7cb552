"""Step 6: what the winner's train and val curves say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.view import artifacts
from tuner.view.artifacts import get, items
from tuner.view.blocks import Blocks
from tuner.view.reports.fine import learning_curve
from tuner.view.text import fixed, interval, is_number, number, plus_minus

TITLE = "STEP 6  diagnosis of the winner"


def body(result: Mapping[str, Any], stage_dir: Path, page: Blocks) -> None:
    """Show train against val at the best epoch, and both curves."""
    metrics = get(result, "metrics", default={})
    gap_interval = get(metrics, "gap_interval")
    best, epochs = get(metrics, "best_epoch"), get(metrics, "epochs")
    rows = [
        ["accuracy", *(fixed(get(metrics, key)) for key in ("train_accuracy", "val_accuracy", "gap"))],
        ["loss", fixed(get(metrics, "train_loss")), fixed(get(metrics, "val_loss")), "-"],
    ]
    if get(metrics, "train_loss") is None and get(metrics, "val_loss") is None:
        rows = rows[:1]
    elif get(metrics, "train_loss") is not None and get(metrics, "val_loss") is not None:
        rows[1][3] = fixed(metrics["val_loss"] - metrics["train_loss"])
    page.table([f"best epoch, {number(best)} of {number(epochs)}", "train", "val", "gap"], rows)
    if gap_interval is not None:
        page.gap()
        page.text(f"The accuracy gap lies between {interval(gap_interval).replace(' to ', ' and ')} (95 %).", 3)
    _confirming(items(metrics, "confirming"), page)
    learning_curve(winner_curve(result, stage_dir), page, "loss", best)


def _confirming(arms: list[Mapping[str, Any]], page: Blocks) -> None:
    """Show what the short runs that tell look-alikes apart gave, each beside its control."""
    if not arms:
        return
    page.gap()
    rows = [
        [
            str(get(arm, "arm", default="-")),
            number(get(arm, "runs")),
            fixed(get(arm, "accuracy")),
            plus_minus(get(arm, "gain"), get(arm, "noise")) if is_number(get(arm, "gain")) else "-",
            "helps" if get(arm, "helps") else "-" if not is_number(get(arm, "gain")) else "no",
        ]
        for arm in arms
    ]
    page.table(["confirming run", "seeds", "accuracy", "gain", "beyond noise"], rows, left=(0, 4))


def winner_curve(result: Mapping[str, Any], stage_dir: Path) -> list[dict[str, Any]]:
    """Read the diagnosed trial's curve from the folder of the stage that trained it."""
    stage = str(get(result, "metrics", "curves_stage", default=""))
    return artifacts.curve(stage_dir.parent / stage, get(result, "metrics", "trial"))
