"""Read what a stage left in its folder. Whatever is missing or torn reads as nothing: a report never fails on it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.core.metrics import FinalistMetrics
from tuner.core.result import StageResult, is_less_better
from tuner.view.text import as_float, spans_decades

Row = dict[str, Any]

# losses that are minus the log of a likelihood, by their names in recipes and in torch, without underscores
LIKELIHOODS = {"crossentropy", "nll", "bce", "kl", "ohem"} | {
    "crossentropyloss",
    "nllloss",
    "bceloss",
    "bcewithlogitsloss",
}
LOG_KEYS = ("lr", "weight_decay", "eps")  # quantities whose ratios matter


def get(value: Any, *path: str | int, default: Any = None) -> Any:
    """Follow keys and positions into nested JSON; `default` as soon as something is missing or null."""
    for key in path:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and isinstance(key, int):
            value = value[key] if key < len(value) else None
        else:
            return default
    return default if value is None else value


def items(value: Any, *path: str | int) -> list[Mapping[str, Any]]:
    """Return the mappings of a list found at `path`; anything else gives an empty list."""
    found = get(value, *path, default=[])
    if not isinstance(found, Sequence) or isinstance(found, str):
        return []
    return [item for item in found if isinstance(item, Mapping)]


def numbers(value: Any, *path: str | int) -> list[float]:
    """Return the finite numbers of a list found at `path`."""
    found = get(value, *path, default=[])
    if not isinstance(found, Sequence) or isinstance(found, str):
        return []
    return [item for item in map(as_float, found) if item is not None]


def read_csv(path: Path) -> list[Row]:
    """Read a CSV file: numbers as floats, empty cells and non-finite numbers as None, other text as it is."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [{key: _cell(cell) for key, cell in row.items() if key is not None} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _cell(text: str | None) -> Any:
    if text is None or text == "" or text.lower() in ("nan", "inf", "-inf", "none", "null"):
        return None
    value = as_float(text)
    return text if value is None else value


def read_json(path: Path) -> Any:
    """Read a JSON file, or None."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def curve(stage_dir: Path, trial: str | None) -> list[Row]:
    """Read the curve of a trial: rows {step, epoch, split, loss, accuracy, ...}."""
    return read_csv(stage_dir / "curves" / f"{trial}.csv") if trial else []


def loss_in_nats(stage_dir: Path) -> bool:
    """Return whether the loss of a stage's recipe is minus the log of a likelihood; of a log it is not known."""
    recipe = read_json(stage_dir / "recipe.json") or {}
    table = recipe.get("loss") or {}
    name = str(table.get("name", "")) if isinstance(table, Mapping) else ""
    of_log = (recipe.get("data") or {}).get("source") == "log"
    return not of_log and name.rpartition(".")[2].lower().replace("_", "") in LIKELIHOODS


def column(rows: Sequence[Row], split: str, x: str, y: str) -> tuple[list[float], list[float | None]]:
    """Return x and y of one split's rows; rows without an x are left out, a y that is missing is None."""
    chosen = [row for row in rows if row.get("split") == split and as_float(row.get(x)) is not None]
    return [float(row[x]) for row in chosen], [as_float(row.get(y)) for row in chosen]


def trials(stage_dir: Path, score: str = "accuracy") -> list[Row]:
    """Read trials.csv; every row gets `trial` (the id), `val_score` (the run's score, as it was measured on val at the
    trial's best epoch) where it has them, and `rank` (that score, turned so that larger is better).
    """
    rows = read_csv(stage_dir / "trials.csv")
    train = (read_json(stage_dir / "recipe.json") or {}).get("train") or {}
    sign = -1.0 if is_less_better(score, str(train.get("monitor_mode", "max"))) else 1.0
    for row in rows:
        row["trial"] = _id(row)
        row["val_score"] = _first(row, f"best_val_{score}", "score")
        row["rank"] = None if row["val_score"] is None else sign * row["val_score"]
    return rows


def rank(row: Row) -> float:
    """Return what trials are ranked by, larger is better."""
    known = _first(row, "rank", "score", "val_score")
    return float("-inf") if known is None else known


def _first(row: Row, *names: str) -> float | None:
    for name in names:
        value = as_float(row.get(name))
        if value is not None:
            return value
    return None


def _id(row: Row) -> str | None:
    return next((str(row[name]) for name in ("trial", "id") if row.get(name) is not None), None)


def searched(rows: Sequence[Row]) -> list[str]:
    """Return the columns of trials.csv that are recipe keys (dotted) with more than one value."""
    keys = [key for key in (rows[0] if rows else {}) if "." in key]
    return [key for key in keys if len({str(row.get(key)) for row in rows if row.get(key) is not None}) > 1]


def is_log(key: str, values: Iterable[Any]) -> bool:
    """Return whether a key's values read better in the logarithm: a wide span, or where ratios matter a smaller one."""
    return spans_decades(values, factor=2 if key.rsplit(".", 1)[-1] in LOG_KEYS else 8)


def has_won(finalist: FinalistMetrics, winner: str | None) -> bool:
    """Return whether the winning trial is one of a finalist's: the first, or one of those with new seeds."""
    return winner is not None and winner in (finalist.trial, *finalist.trials)


def best_of(trials: Sequence[Row]) -> int | None:
    """Return the place of the trial with the best val score (ties: the lower val loss, as the search decides)."""
    scored = [i for i, trial in enumerate(trials) if as_float(trial.get("val_score")) is not None]

    def order(i: int) -> tuple[float, float]:
        loss = as_float(trials[i].get("best_val_loss"))
        return -rank(trials[i]), loss if loss is not None else float("inf")

    return min(scored, key=order, default=None)


def marked(result: StageResult[Any], trials: Sequence[Row]) -> tuple[int | None, str]:
    """Return the place of the trial to point out and the word for it: the chosen one, else the best."""
    chosen = result.choice.get("trial")
    place = next((i for i, row in enumerate(trials) if chosen is not None and row.get("trial") == chosen), None)
    return (place, "chosen") if place is not None else (best_of(trials), "best")
