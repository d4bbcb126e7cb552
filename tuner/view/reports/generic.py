"""Any stage that has no report of its own: its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.core.result import StageResult
from tuner.core.values import to_json
from tuner.view.blocks import Blocks
from tuner.view.text import number, params_text

TITLE = "STEP    a stage of its own"


def body(result: StageResult[Any], stage_dir: Path, page: Blocks) -> None:
    """List the plain numbers of `metrics` and `choice`."""
    rows = []
    for table in (to_json(result.metrics), result.choice):
        for key, value in table.items():
            if isinstance(value, Mapping):
                rows.append([key, params_text(value)])
            elif not isinstance(value, list):
                rows.append([key.replace("_", " "), number(value)])
    page.table(["what", "value"], rows, left=(0, 1))
