"""Evidence of the measurement data_scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class SplitScan:
    """One split. `min`, `max`, `mean`, `std`: per channel or column. `class_counts`: by label, those in range.

    `scanned`: how many of the `n` examples were looked at, where not all were.
    `duplicates`: examples that repeat an earlier one; `conflicting`: those of them with another label; None where they
    were not looked for. `first_*`: where the first is; `non_finite_columns`: how many by column or channel.
    """

    n: int
    shape: Sequence[int]
    class_counts: Sequence[int]
    dtype: str = ""
    min: Sequence[float | None] = ()
    max: Sequence[float | None] = ()
    mean: Sequence[float | None] = ()
    std: Sequence[float | None] = ()
    non_finite: int = 0
    first_non_finite: str | None = None
    non_finite_columns: Mapping[str, int] = field(default_factory=dict)
    constant_inputs: int = 0
    constant_columns: Sequence[str] = ()
    label_range: Sequence[float] = ()
    target_mean: Sequence[float] | None = None
    target_std: Sequence[float] | None = None
    labels_outside: int = 0
    first_label_outside: str | None = None
    duplicates: int | None = None
    first_duplicate: Sequence[str] | None = None
    conflicting: int | None = None
    first_conflict: Sequence[str] | None = None
    scanned: int | None = None


@dataclass(frozen=True)
class Across:
    """Val examples that are in train as well: how many, their share of val, and how many with the same label."""

    duplicates: int
    share: float
    agreeing: int
    first: Sequence[str] | None = None


@dataclass(frozen=True)
class DataScan(Evidence):
    """Every example of train and val, looked at once as loaded; test only for its size.

    `no_duplicates`: why equal examples were not looked for, if so. `columns`: what became of a table's columns, as
    `parts.columns.Columns` says it. `baseline`: what the best constant answer scores on val, by the score `score_name`.
    """

    num_classes: int
    class_names: Sequence[str] = ()
    test_examples: int = 0
    train: SplitScan | None = None
    val: SplitScan | None = None
    across: Across | None = None
    no_duplicates: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    baseline: float | None = None
    score_name: str | None = None
