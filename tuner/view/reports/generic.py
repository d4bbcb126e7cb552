"""Any stage that has no report of its own: its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.view.artifacts import get
from tuner.view.blocks import Blocks
from tuner.view.text import number, params_text

TITLE = "STEP    a stage of its own"


def body(result: Mapping[str, Any], stage_dir: Path, page: Blocks) -> None:
    """List the plain numbers of `metrics` and `choice`."""
    rows = []
    for table in ("metrics", "choice"):
        for key, value in get(result, table, default={}).items():
            if isinstance(value, Mapping):
                rows.append([key, params_text(value)])
            elif not isinstance(value, list):
                rows.append([key.replace("_", " "), number(value)])
    page.table(["what", "value"], rows, left=(0, 1))
