"""Step 6: what the winner's train and val curves say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tuner.core.metrics import ConfirmingRun, DiagnoseMetrics
from tuner.core.result import StageResult
from tuner.view import artifacts
from tuner.view.blocks import Blocks
from tuner.view.reports.fine import learning_curve
from tuner.view.text import as_float, fixed, interval, is_number, number, plus_minus, words_of

TITLE = "STEP 6  diagnosis of the winner"
LOG_TITLE = "STEP 6  diagnosis of a log"


def body(result: StageResult[DiagnoseMetrics], stage_dir: Path, page: Blocks) -> None:
    """Show train against val at the best epoch, and both curves."""
    metrics = result.metrics
    gap_interval = metrics.gap_interval
    best, epochs = metrics.best_epoch, metrics.epochs
    rows = [["accuracy", *map(fixed, (metrics.train_accuracy, metrics.val_accuracy, metrics.gap))]]
    if metrics.score_key not in ("accuracy", "loss"):
        own = [words_of(metrics.score_key), *_at_best(result, stage_dir)]
        rows = [own] if metrics.val_accuracy is None else [own, *rows]
    if metrics.train_loss is not None or metrics.val_loss is not None:
        both = metrics.train_loss is not None and metrics.val_loss is not None
        gap = (metrics.val_loss or 0.0) - (metrics.train_loss or 0.0) if both else None
        rows.append(["loss", fixed(metrics.train_loss), fixed(metrics.val_loss), fixed(gap)])
    page.table([f"best epoch, {number(best)} of {number(epochs)}", "train", "val", "gap"], rows)
    if gap_interval is not None:
        page.gap()
        page.text(f"The accuracy gap lies between {interval(gap_interval).replace(' to ', ' and ')} (95 %).", 3)
    _confirming(metrics.confirming, page)
    learning_curve(winner_curve(result, stage_dir), page, "loss", best, of=whose(result))


def is_of_log(result: StageResult[DiagnoseMetrics]) -> bool:
    """Return whether the training is one that tuner never saw: its curve then lies in the folder of this step."""
    return result.metrics.curves_stage == result.stage


def whose(result: StageResult[DiagnoseMetrics]) -> str:
    """Return whose curves are shown."""
    return "the log" if is_of_log(result) else "the winner"


def title(result: StageResult[DiagnoseMetrics]) -> str:
    """Return the title of the report."""
    return LOG_TITLE if is_of_log(result) else TITLE


def _at_best(result: StageResult[DiagnoseMetrics], stage_dir: Path) -> list[str]:
    """Return the run's own score at the best epoch on the train subset and on val, and the gap between them."""
    rows = [row for row in winner_curve(result, stage_dir) if row.get("epoch") == result.metrics.best_epoch]
    found = {str(row.get("split")): as_float(row.get(result.metrics.score_key)) for row in rows}
    train, val = found.get("train_eval"), found.get("val", result.metrics.score)
    return [fixed(train), fixed(val), fixed(train - val) if train is not None and val is not None else "-"]


def _confirming(arms: Sequence[ConfirmingRun], page: Blocks) -> None:
    """Show what the short runs that tell look-alikes apart gave, each beside its control."""
    if not arms:
        return
    page.gap()
    rows = [
        [
            str(arm.arm),
            number(arm.runs),
            fixed(arm.accuracy),
            plus_minus(arm.gain, arm.noise) if is_number(arm.gain) else "-",
            "helps" if arm.helps else "-" if not is_number(arm.gain) else "no",
        ]
        for arm in arms
    ]
    page.table(["confirming run", "seeds", "accuracy", "gain", "beyond noise"], rows, left=(0, 4))


def winner_curve(result: StageResult[DiagnoseMetrics], stage_dir: Path) -> list[dict[str, Any]]:
    """Read the diagnosed trial's curve from the folder of the stage that trained it."""
    stage = str(result.metrics.curves_stage)
    return artifacts.curve(stage_dir.parent / stage, result.metrics.trial)
