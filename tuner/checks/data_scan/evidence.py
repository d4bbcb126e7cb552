"""Evidence of the measurement data_scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.checks.evidence import Evidence
from tuner.core.metrics import SplitScan


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
