"""The log of a training that tuner never saw: read from the usual files, judged by the rules of step 6."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.api.report import Report
from tuner.core.errors import InputError, UsageError
from tuner.core.metrics import FineMetrics
from tuner.core.result import Record, StageResult, TrialResult
from tuner.core.trial import TrialSpec, WorkItem
from tuner.recipe.model import Recipe
from tuner.stages import Inputs, load

# what columns are called; the first that is there counts
LOSS = {
    "train": ("train_loss_epoch", "train_loss", "train/loss", "loss"),
    "val": ("val_loss", "eval_loss", "valid_loss", "validation_loss", "val/loss"),
}
ACCURACY = {
    "train": ("train_acc", "train_accuracy", "train/acc", "accuracy", "acc"),
    "val": ("val_acc", "val_accuracy", "eval_accuracy", "valid_acc", "validation_accuracy", "val/acc"),
}
LR = ("lr", "learning_rate", "lr-Adam", "lr-SGD", "lr-AdamW")
GRAD_NORM = ("grad_norm", "gradient_norm")


def read_log(path: Path) -> list[dict[str, float]]:
    """Return the rows of a log: CSV (Lightning's too), JSON lines, or Hugging Face's trainer_state.json.

    Raises:
        InputError: no such file, no rows, not one of these.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file", "Give a CSV, a .jsonl, or Hugging Face's trainer_state.json.")
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    try:
        if path.suffix == ".json":
            found = json.loads(text)
            rows: Iterable[Mapping[str, Any]] = found["log_history"] if isinstance(found, dict) else found
        elif path.suffix in (".jsonl", ".ndjson"):
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            rows = list(csv.DictReader(text.splitlines()))
        read = [_numbers(row) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not a log that is known ({error})", "CSV, JSON lines or trainer_state.json."
        ) from None
    kept = [row for row in read if row]
    if not kept:
        raise InputError(f"{path}: no row has a number in it", "One row per epoch or step, one column per quantity.")
    return kept


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for key, value in row.items():
        try:
            found[str(key).strip()] = float(value)
        except (TypeError, ValueError):
            continue
    return found


def curve_of(rows: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Return the rows of a curve (step, epoch, split, loss, ...): of each epoch the mean over its rows.

    Raises:
        UsageError: no column is a loss.
    """
    names = {key for row in rows for key in row}
    if not names & {*LOSS["train"], *LOSS["val"]}:
        raise UsageError(
            f"the log has no column of a loss (it has: {', '.join(sorted(names)[:12])})",
            f"Call them {LOSS['train'][1]} and {LOSS['val'][0]}.",
        )
    by_epoch: dict[int, list[Mapping[str, float]]] = {}
    for place, row in enumerate(rows):
        epoch = row.get("epoch")
        by_epoch.setdefault(place if epoch is None else math.ceil(epoch - 1e-9), []).append(row)
    curve: list[dict[str, Any]] = []
    for number, (_, group) in enumerate(sorted(by_epoch.items()), 1):
        step = int(max(row.get("step", row.get("global_step", number)) for row in group))
        for split in ("train", "val"):
            loss, accuracy = (_mean(group, choice[split]) for choice in (LOSS, ACCURACY))
            if loss is None:
                continue
            made = {"step": step, "epoch": number, "split": split, "loss": loss, "accuracy": accuracy}
            if split == "train":
                made |= {"lr": _mean(group, LR), "grad_norm": _mean(group, GRAD_NORM)}
            curve.append({key: value for key, value in made.items() if value is not None})
    return curve


def _mean(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> float | None:
    for name in names:
        values = [row[name] for row in rows if name in row and not math.isnan(row[name])]
        if values:
            return sum(values) / len(values)
        if any(name in row for row in rows) and name in ("loss", "train_loss"):
            return math.nan
    return None


def judged(curve: Sequence[Mapping[str, Any]], batch: Mapping[str, Any] | None = None) -> Report:
    """Judge a curve as step 6 does, without confirming runs; a loss that is not finite, or never falls, is said first.

    `batch`: tables of a recipe that are known (the optimizer's name and rate).
    """
    train = [row for row in curve if row["split"] == "train"]
    val = [row for row in curve if row["split"] == "val"]
    table = {"name": "log", "data": {"source": "log"}, "model": {"name": "log"}, **(batch or {})}
    recipe = Recipe.model_validate(table)
    spec = TrialSpec(tables=recipe.tables(), overrides={}, seed=0, horizon_epochs=max(len(train), len(val), 1))
    scored = [row for row in val if "accuracy" in row] or []
    best = _best(val, scored)
    status = "completed" if all(math.isfinite(row["loss"]) for row in train) else "diverged"
    rows = [*curve, *({**row, "split": "train_eval"} for row in train)] if val else list(curve)
    result = TrialResult(spec.id, None, status, rows, score=None, best_epoch=best)  # type: ignore[arg-type]
    record = Record(WorkItem(spec, 0), result)
    inputs = Inputs(
        results={"fine": StageResult("fine", "", FineMetrics(), choice={"trial": spec.id})},
        trials={"fine": [record]},
    )
    module = load("diagnose")
    found: StageResult[Any] = module.judge(recipe, inputs, module.Settings.model_validate({"confirm": False}), [])
    return Report((found,))


def _best(val: Sequence[Mapping[str, Any]], scored: Sequence[Mapping[str, Any]]) -> int | None:
    if scored:
        return int(max(scored, key=lambda row: row["accuracy"])["epoch"])
    finite = [row for row in val if math.isfinite(row["loss"])]
    return int(min(finite, key=lambda row: row["loss"])["epoch"]) if finite else None
