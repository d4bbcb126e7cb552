"""What the winner's curves say in numbers: the evidence that the rules of step 6 judge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tuner.core.result import Record
from tuner.core.statistics import difference_interval


def curve_facts(winner: Record, group: Sequence[Record], val_n: int | None) -> dict[str, Any]:
    """Return the series per epoch and the numbers at the best epoch.

    `group`: the winner's runs with all seeds. A gap compares the train subset with val, both in eval mode and without
    augmentation; the subset is as large as val.
    """
    val, subset, running = (winner.rows(split) for split in ("val", "train_eval", "train"))
    best = winner.result.best_epoch
    facts: dict[str, Any] = {
        "trial": winner.result.id,
        "epochs": len(val) or len(running),
        "steps": max((row["step"] for row in running), default=0),
        "best_epoch": best,
        "best_epochs": [record.result.best_epoch for record in group if record.result.best_epoch],
        "val_n": val_n,
        "val_accuracies": column(val, "accuracy"),
        "val_losses": column(val, "loss"),
        "train_accuracies": column(subset, "accuracy"),
        "train_losses": column(subset, "loss"),
        "running_losses": column(running, "loss"),
        "running_accuracies": column(running, "accuracy"),
        "lrs": column(running, "lr"),
        "gap": None,
        "gap_interval": None,
    }
    facts |= _lost(running)
    at_val, at_train = winner.best_row("val") or {}, winner.best_row("train_eval") or {}
    for name, row in (("val", at_val), ("train", at_train)):
        facts[f"{name}_accuracy"], facts[f"{name}_loss"] = row.get("accuracy"), row.get("loss")
    if facts["val_accuracy"] is not None and facts["train_accuracy"] is not None:
        facts["gap"] = facts["train_accuracy"] - facts["val_accuracy"]
        if val_n:
            shares = facts["train_accuracy"], val_n, facts["val_accuracy"], val_n
            facts["gap_interval"] = list(difference_interval(*shares))
    return facts


def column(rows: Sequence[Any], key: str) -> list[float] | None:
    """Return the values of a column; None where one of them is missing or not finite."""
    values = [row.get(key) for row in rows]
    if not values or any(not isinstance(value, (int, float)) or not math.isfinite(value) for value in values):
        return None
    return [float(value) for value in values]


def _lost(running: Sequence[Any]) -> dict[str, Any]:
    """Return where the running loss was lost, what it was before, and the rate; nothing where it never was."""
    for place, row in enumerate(running):
        loss = row.get("loss")
        if loss is None or not math.isfinite(loss):
            before = running[place - 1]["loss"] if place else None
            return {"lost_at": place + 1, "last_finite_loss": before, "lost_lr": row.get("lr")}
    return {}
