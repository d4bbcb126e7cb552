"""Tables (CSV, Parquet): columns to numbers, with every problem named by column, row and line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tuner.core.errors import EnvironmentProblem, InputError, UsageError, did_you_mean
from tuner.parts.columns import Columns, numbers_rows

MISSING = "(missing)"
MAX_CATEGORIES = 50  # of an undeclared text column; more look like names or identifiers
NUMBERS_SHARE = 0.9  # a text column with more numbers than this is a column of numbers with faults


@dataclass(frozen=True)
class Table:
    """A table as arrays: `inputs` (rows, features) float32, `targets` (rows,), words for row i, names."""

    inputs: np.ndarray
    targets: np.ndarray
    class_names: tuple[str, ...] | None
    place: Callable[[int], str]
    feature_names: tuple[str, ...]
    columns: Columns
    weights: np.ndarray | None = None


@dataclass(frozen=True)
class Asked:
    """What a recipe asks of a table; `task`: what its target is, where the recipe says it.

    `ranges`: column -> what brings its numbers into a range. `weights`: the column of the examples' weights.
    """

    target: str
    categorical: Sequence[str] = ()
    drop: Sequence[str] = ()
    separator: str = ","
    task: str | None = None
    ranges: Mapping[str, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)
    weights: str | None = None


def read_table(path: Path, asked: Asked) -> Table:
    """Read a table: numbers as they are, text one-hot, the target as classes or, where it has fractions, as numbers.

    Raises:
        InputError: no such file, not readable, no rows, NaN in the target (rows named), a text in a column of numbers.
        UsageError: unknown columns (with the nearest name), no input column left, a text column with too many values,
            dates, a target of text where quantities are asked for.
        EnvironmentProblem: Parquet without pyarrow.
    """
    target, categorical, drop = asked.target, asked.categorical, asked.drop
    frame = _read(path, asked.separator)
    columns = [str(name) for name in frame.columns]
    frame.columns = columns
    _known_columns(path, columns, asked)
    if not len(frame):
        raise InputError(f"{path}: a header but no rows", "Add rows.")
    place = _place(path, len(frame))
    labels, class_names = _labels(frame[target], place, path, asked.task)
    names: list[str] = []
    one_hot: dict[str, int] = {}
    identifiers: list[str] = []
    parts: list[np.ndarray] = []
    problems: list[str] = []
    for name in columns:
        if name in (target, asked.weights) or name in drop:
            continue
        try:
            values, added = _column(frame[name], name, name in categorical, place)
        except UsageError as error:
            problems.append(error.message)
            continue
        if name in asked.ranges and added != [name]:
            problems.append(f"data.ranges: column {name!r} holds text or categories: a range is of numbers")
            continue
        parts.append(asked.ranges[name](values).astype(np.float32) if name in asked.ranges else values)
        names += added
        if added != [name]:
            one_hot[name] = len(added)
        elif numbers_rows(frame[name].to_numpy(dtype=np.float64, na_value=np.nan), name):
            identifiers.append(name)
    if problems:
        raise UsageError("\n".join(f"{path}: {text}" for text in problems), "See data.drop and data.categorical.")
    if not parts:
        raise UsageError(f"data.drop: {path}: no input column is left (columns: {', '.join(columns)})")
    became = Columns(one_hot, tuple(identifiers))
    weights = None if asked.weights is None else _weights(frame[asked.weights], place, path)
    return Table(np.concatenate(parts, axis=1), labels, class_names, place, tuple(names), became, weights)


def _weights(column: Any, place: Callable[[int], str], path: Path) -> np.ndarray:
    """Return the examples' weights.

    Raises:
        InputError: one is no number of at least 0, or none is above it.
    """
    import pandas

    values = pandas.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.flatnonzero(~np.isfinite(values) | (values < 0))
    if len(wrong):
        at = int(wrong[0])
        text = f"data.weights: {path}: column {column.name!r} holds {column.iloc[at]} in {place(at)}"
        raise InputError(text, "A weight is a number of at least 0.")
    if not (values > 0).any():
        raise InputError(f"data.weights: {path}: every weight in column {column.name!r} is 0", "Name another column.")
    return values


def _read(path: Path, separator: str) -> Any:
    import pandas

    if not path.is_file():
        raise InputError(f"data.path: no such file: {path}", "Give the path of a CSV or Parquet file.")
    if path.suffix.lower() not in (".csv", ".tsv", ".txt", ".parquet", ".pq"):
        raise UsageError(f"data.path: {path}: unknown kind of table", "Known: .csv .tsv .txt .parquet .pq")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pandas.read_parquet(path)
        return pandas.read_csv(path, sep="\t" if path.suffix.lower() == ".tsv" else separator)
    except ImportError:
        raise EnvironmentProblem(f"{path}: reading Parquet needs pyarrow", "pip install 'tuner[parquet]'") from None
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors, pyarrow's both
        hint = "Save it as UTF-8." if isinstance(error, UnicodeDecodeError) else "Fix the file."
        raise InputError(f"{path}: not a readable table ({' '.join(str(error).split())})", hint) from None


def _known_columns(path: Path, columns: Sequence[str], asked: Asked) -> None:
    target, weights = asked.target, [] if asked.weights is None else [asked.weights]
    named: dict[str, Sequence[str]] = {"target": [target], "categorical": asked.categorical, "drop": asked.drop}
    named |= {"ranges": list(asked.ranges), "weights": weights}
    problems = []
    for key, names in named.items():
        if isinstance(names, str):
            problems.append(f"data.{key}: must be a list of column names (got {names!r})")
            continue
        for name in names:
            if name not in columns:
                known = ", ".join(columns[:20]) + (" ..." if len(columns) > 20 else "")
                problems.append(
                    f"data.{key}: {path} has no column {name!r}{did_you_mean(name, columns)} (columns: {known})"
                )
            elif key != "target" and name == target:
                problems.append(f"data.{key}: {name!r} is the target")
    if problems:
        other = next((sign for sign in ";\t|" if len(columns) == 1 and sign in columns[0]), None)
        asked_for = f"The columns seem to be separated by {other!r}: set data.separator." if other else ""
        raise UsageError("\n".join(problems), asked_for or "Names are those of the file's first line.")


def _place(path: Path, rows: int) -> Callable[[int], str]:
    """Name row i (from 0, as pandas does), and its line where every row has exactly one line below the header."""
    one_line_each = False
    if path.suffix.lower() not in (".parquet", ".pq"):
        with path.open("rb") as file:
            one_line_each = sum(1 for _ in file) == rows + 1

    def place(i: int) -> str:
        return f"row {i} (line {i + 2})" if one_line_each else f"row {i}"

    return place


def _labels(
    column: Any, place: Callable[[int], str], path: Path, task: str | None
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return the targets: class numbers with the classes' names, or numbers where they are quantities."""
    import pandas

    empty = np.flatnonzero(column.isna().to_numpy())
    if len(empty):
        rows = ", ".join(place(int(i)) for i in empty[:5]) + (" ..." if len(empty) > 5 else "")
        raise InputError(f"{path}: the target {column.name!r} is missing in {rows}", "Fill it in or remove the row.")
    numeric = pandas.api.types.is_numeric_dtype(column)
    if task == "regression" and not numeric:
        raise UsageError(
            f"data.target: {column.name!r} holds {column.iloc[0]!r} in {place(0)}, no number",
            'Name a column of numbers, or set data.task = "classification".',
        )
    fractions = pandas.api.types.is_float_dtype(column) and bool((column.to_numpy() % 1 != 0).any())
    if task == "regression" or (fractions and task is None):
        return column.to_numpy(dtype=np.float32), None
    if fractions:
        at = int(np.flatnonzero(column.to_numpy() % 1 != 0)[0])
        raise UsageError(
            f"data.target: {column.name!r} holds real numbers ({column.iloc[at].item()!r} in {place(at)}), and "
            f"data.task is {task!r}: one class per example is needed",
            'Set data.task = "regression", or name another column.',
        )
    codes, values = pandas.factorize(
        column.astype("int64") if pandas.api.types.is_float_dtype(column) else column, sort=True
    )
    return codes.astype(np.int64), tuple(str(value) for value in values)


def _column(column: Any, name: str, declared: bool, place: Callable[[int], str]) -> tuple[np.ndarray, list[str]]:
    """Return a column as (rows, k) float32 and its k names."""
    import pandas

    types = pandas.api.types
    if not declared and (types.is_numeric_dtype(column) or types.is_bool_dtype(column)):
        return column.to_numpy(dtype=np.float32, na_value=np.nan)[:, None], [name]
    if types.is_datetime64_any_dtype(column):
        raise UsageError(f"column {name!r} holds dates: drop it, or turn it into numbers")
    if not declared:
        _truly_text(column, name, place)
    texts = column.astype(object).where(column.notna(), MISSING).astype(str)
    codes, values = pandas.factorize(texts, sort=True)
    one_hot = np.zeros((len(column), len(values)), dtype=np.float32)
    one_hot[np.arange(len(column)), codes] = 1
    return one_hot, [f"{name}={value}" for value in values]


def _truly_text(column: Any, name: str, place: Callable[[int], str]) -> None:
    """Refuse an undeclared text column that is a column of numbers with faults, or has a value for nearly every row."""
    import pandas

    present = column.notna().to_numpy()
    numbers = pandas.to_numeric(column, errors="coerce").notna().to_numpy()
    faults = np.flatnonzero(present & ~numbers)
    if len(faults) and numbers.sum() >= NUMBERS_SHARE * present.sum():
        value = column.iloc[int(faults[0])]
        raise UsageError(f"{place(int(faults[0]))}, column {name!r}: {value!r} in a column of numbers")
    count = column.nunique()
    if count > MAX_CATEGORIES:
        raise UsageError(
            f"column {name!r} is text with {count} different values: add it to data.drop or data.categorical"
        )
