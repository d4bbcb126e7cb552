"""Reading the log of a training that tuner never saw: the usual files as rows, and the rows as a curve."""

from __future__ import annotations

import csv
import json
import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.core.errors import InputError, UsageError, did_you_mean

# what columns are called; the first that is there counts
LOSS = {
    "train": ("train_loss_epoch", "train_loss", "train/loss", "training_loss", "loss", "train_loss_step"),
    "val": ("val_loss", "eval_loss", "valid_loss", "validation_loss", "val/loss", "eval/loss"),
}
ACCURACY = {
    "train": ("train_acc", "train_accuracy", "train/acc", "train_acc_epoch", "accuracy", "acc"),
    "val": ("val_acc", "val_accuracy", "eval_accuracy", "valid_acc", "validation_accuracy", "val/acc"),
}
LR = ("lr", "learning_rate", "train/lr", "lr-Adam", "lr-AdamW", "lr-SGD")
GRAD_NORM = ("grad_norm", "gradient_norm", "train/grad_norm")
STEP = ("step", "global_step", "iteration", "iter")
EPOCH = ("epoch", "epochs")
SUMMARY = "train_runtime"  # Hugging Face's last row holds means over the whole training under the usual names
FORMS = "CSV, JSON lines or Hugging Face's trainer_state.json"
PARTS = 20  # of a log that has neither epochs nor evaluations

Row = Mapping[str, float]


def read_log(path: Path) -> list[dict[str, float]]:
    """Return the rows of a log: CSV (Lightning's and Keras's too), JSON lines, or Hugging Face's trainer_state.json.

    Raises:
        InputError: no such file, no rows, not one of these.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file", f"Give the file of the log: {FORMS}.")
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    try:
        found = [_numbers(row) for row in _rows(text, path.suffix)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a log that is known ({error})", f"{FORMS}.") from None
    kept = [row for row in found if row and SUMMARY not in row]
    if not kept:
        raise InputError(f"{path}: no row has a number in it", "One row per epoch or step, one column per quantity.")
    return kept


def _rows(text: str, suffix: str) -> Iterable[Mapping[str, Any]]:
    if suffix == ".json":
        found = json.loads(text)
        rows: Iterable[Mapping[str, Any]] = found["log_history"] if isinstance(found, dict) else found
        return rows
    if suffix in (".jsonl", ".ndjson"):
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return csv.DictReader(text.splitlines())


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for key, value in row.items():
        try:
            found[str(key).strip()] = float(value)
        except (TypeError, ValueError):
            continue
    return found


def curve_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows of a curve (step, epoch, split, loss, ...), numbered from 1: one per evaluation on val.

    What was logged while training since the evaluation before is averaged; it counts to the evaluation that follows it,
    whether the log orders its rows so or not. Without evaluations a row of the curve is an epoch of the log, or a
    twentieth of one that has no epochs. Rows behind the last evaluation count where there is none, or where a loss
    among them is not finite.

    Raises:
        UsageError: no column is a loss.
    """
    names = {key for row in rows for key in row}
    if not names & {*LOSS["train"], *LOSS["val"]}:
        close = next((text for name in sorted(names) if (text := did_you_mean(name, LOSS["train"] + LOSS["val"]))), "")
        raise UsageError(
            f"the log has no column of a loss (it has: {', '.join(sorted(names)[:12])}){close}",
            f"Call them {LOSS['train'][1]} and {LOSS['val'][0]}.",
        )
    curve: list[dict[str, Any]] = []
    for number, group in enumerate(_groups(rows), 1):
        step = int(max((_first(row, STEP) or number) for row in group))
        for split in ("train", "val"):
            loss, accuracy = _mean(group, LOSS[split]), _mean(group, ACCURACY[split])
            if loss is None:
                continue
            made = {"step": step, "epoch": number, "split": split, "loss": loss, "accuracy": accuracy}
            if split == "train":
                made |= {"lr": _mean(group, LR), "grad_norm": _mean(group, GRAD_NORM)}
            curve.append({key: value for key, value in made.items() if value is not None})
    return curve


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows that belong to each evaluation, epoch or part, in order."""
    places = _places(rows)
    ends = sorted({place for place, row in zip(places, rows, strict=True) if _first(row, LOSS["val"]) is not None})
    if not ends:
        whole = sorted(set(places))
        ends = whole if len(whole) <= 2 * PARTS else [whole[len(whole) * k // PARTS - 1] for k in range(1, PARTS + 1)]
    groups: list[list[Row]] = [[] for _ in range(len(ends) + 1)]
    for place, row in zip(places, rows, strict=True):
        groups[bisect_left(ends, place)].append(row)
    lost = any(not math.isfinite(loss) for row in groups[-1] if (loss := _first(row, LOSS["train"])) is not None)
    return [group for group in groups[:-1] if group] + ([groups[-1]] if lost else [])


def _places(rows: Sequence[Row]) -> list[float]:
    """Return how far each row is: its step where there are evaluations, else its epoch; its number where it says none.

    A row without a loss that does not say it lies where the row before it does.
    """
    losses = [row for row in rows if any(_first(row, names) is not None for names in LOSS.values())]
    has_val = any(_first(row, LOSS["val"]) is not None for row in rows)
    for names in (STEP, EPOCH) if has_val else (EPOCH, STEP):
        if all(_first(row, names) is not None for row in losses):
            return _filled([_place(row, names) for row in rows])
    return [float(number) for number in range(len(rows))]


def _place(row: Row, names: Sequence[str]) -> float | None:
    value = _first(row, names)
    return None if value is None else math.ceil(value - 1e-9) if names is EPOCH else value


def _filled(places: Sequence[float | None]) -> list[float]:
    known, last = [], next((place for place in places if place is not None), 0.0)
    for place in places:
        last = last if place is None else place
        known.append(last)
    return known


def _first(row: Row, names: Sequence[str]) -> float | None:
    """Return the value under the first of the names that the row has."""
    return next((row[name] for name in names if name in row), None)


def _mean(rows: Sequence[Row], names: Sequence[str]) -> float | None:
    """Return the mean of the first of the columns that the rows have; NaN where one of its losses is not finite."""
    for name in names:
        if values := [row[name] for row in rows if name in row]:
            return sum(values) / len(values)
    return None
