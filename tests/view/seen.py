"""What tests of the view look at and with: results that a run wrote, consoles that write into memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from tuner import stages
from tuner.core.result import StageResult
from tuner.stages.checklist import NAMES as STAGES

__all__ = ["STAGES", "bare", "measured", "plain_console", "read", "text_of", "write_csv"]


def read(run: Path, stage: str) -> StageResult[Any]:
    """Return what a stage of the run concluded."""
    return stages.read_result(run / stage / "result.json")


def measured(result: StageResult[Any], **metrics: Any) -> StageResult[Any]:
    """Return the result with some of its metrics replaced."""
    return replace(result, metrics=replace(result.metrics, **metrics))


def bare(result: StageResult[Any], **metrics: Any) -> StageResult[Any]:
    """Return the result as a stage gives it that could measure nothing but `metrics`."""
    return StageResult(result.stage, result.headline, type(result.metrics)(**metrics))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows({key: "" if value is None else value for key, value in row.items()} for row in rows)


def plain_console(width: int = 80, encoding: str = "utf-8") -> tuple[Console, io.TextIOWrapper]:
    """Return a console like that of a pipe, and the file it writes to."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    return Console(file=file, width=width, highlight=False), file


def text_of(file: io.TextIOWrapper) -> str:
    return file.buffer.getvalue().decode(file.encoding)  # type: ignore[attr-defined]
