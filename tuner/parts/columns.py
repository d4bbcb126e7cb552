"""What became of a table's columns: text that was one-hot encoded, identifiers, and missing cells that are filled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tuner.core.errors import InputError, UsageError

WAYS = ("median", "most_frequent")
IDENTIFIER_ROWS = 20  # of fewer rows, different whole numbers prove nothing
IDENTIFIER_NAMES = ("id", "index", "uuid", "guid", "key", "unnamed: 0", "rownames")


@dataclass(frozen=True)
class Columns:
    """What a table's columns became. `one_hot`: values per encoded column; `identifiers`: columns that number the rows.

    `fill`: how missing cells are filled, None: they stay missing. `filled`: the value that each column with missing
    cells gets, `missing`: how many of its cells are missing in train.
    """

    one_hot: Mapping[str, int] = field(default_factory=dict)
    identifiers: tuple[str, ...] = ()
    fill: str | float | None = None
    filled: Mapping[str, float] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return what step 1 reports."""
        return {
            "one_hot": dict(self.one_hot),
            "identifiers": list(self.identifiers),
            "filled": dict(self.filled),
            "missing": dict(self.missing),
        }


def check_fill(fill: Any) -> None:
    """Refuse what is no way to fill a cell.

    Raises:
        UsageError: it is neither a way nor a finite number.
    """
    is_number = isinstance(fill, (int, float)) and not isinstance(fill, bool) and math.isfinite(fill)
    if fill is not None and fill not in WAYS and not is_number:
        raise UsageError(f'data.fill: must be "median", "most_frequent" or a number (got {fill!r})')


def numbers_rows(values: np.ndarray, name: str) -> bool:
    """Return whether a column of numbers only names its rows.

    Its whole numbers are all different, and they are consecutive, or in order, or the column is called an id.
    """
    if len(values) < IDENTIFIER_ROWS or not np.isfinite(values).all() or (values % 1 != 0).any():
        return False
    if len(np.unique(values)) < len(values):
        return False
    steps = np.diff(values)
    consecutive = values.max() - values.min() == len(values) - 1
    word = name.strip().lower()
    called = word in IDENTIFIER_NAMES or word.endswith(("_id", "-id", " id"))
    return bool(consecutive or (steps > 0).all() or (steps < 0).all() or called)


def fill_missing(
    values: np.ndarray, train: np.ndarray, names: Sequence[str], columns: Columns
) -> tuple[np.ndarray, tuple[str, ...], Columns]:
    """Fill the missing cells of all rows by what the train rows say; return values, feature names and what was done.

    A column with missing cells in train gets a column of 0 and 1 behind all others, `<name> missing`: that a cell is
    missing may say something. Shapes: `values` (rows, features), `train`: positions of the train rows.

    Raises:
        InputError: a column has no value at all in train.
    """
    values = values.copy()
    gaps = np.isnan(values)
    filled: dict[str, float] = {}
    missing: dict[str, int] = {}
    indicators: list[int] = []
    for place in np.flatnonzero(gaps.any(0)).tolist():
        known = values[train, place]
        known = known[~np.isnan(known)]
        if not len(known):
            raise InputError(
                f"data.fill: column {names[place]!r} has no value in train, so nothing can be filled in",
                "Add it to data.drop.",
            )
        filled[names[place]] = _value(known, columns.fill)
        values[gaps[:, place], place] = filled[names[place]]
        if count := int(gaps[train, place].sum()):
            missing[names[place]] = count
            indicators.append(place)
    whole = np.concatenate([values, gaps[:, indicators].astype(values.dtype)], axis=1)
    more = tuple(f"{names[place]} missing" for place in indicators)
    return whole, (*names, *more), replace(columns, filled=filled, missing=missing)


def _value(known: np.ndarray, fill: str | float | None) -> float:
    """Return what a missing cell becomes, of the values that train has; the least of equally frequent ones."""
    if fill == "median":
        return float(np.median(known))
    if fill == "most_frequent":
        found, counts = np.unique(known, return_counts=True)
        return float(found[counts.argmax()])
    return float(fill)  # type: ignore[arg-type]
