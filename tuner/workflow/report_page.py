"""The HTML page of a run, written to a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.core.errors import InputError
from tuner.core.store import read_json, write_bytes
from tuner.workflow.status import Overview


def write_page(run: Overview, path: Path) -> str:
    """Write the page of a run's finished steps, and return the line that says so.

    Raises:
        InputError: no step has finished.
    """
    from tuner.view.html.page import Step, page_of

    steps = [
        Step(row.ref.label, row.result, read_json(run.path / row.ref.label / "result.json"))
        for row in run.rows
        if row.result is not None
    ]
    if not steps:
        raise InputError(f"no step of {run.path} has finished", "tuner run RECIPE begins with step 1.")
    return _write(page_of(run.path, steps, run.path.name), path)


def write_comparison(comparison: Mapping[str, Any], path: Path) -> str:
    """Write the page of a comparison of two runs (its JSON), and return the line that says so."""
    from tuner.view.html.page import comparison_page

    return _write(comparison_page(comparison), path)


def _write(page: str, path: Path) -> str:
    content = page.encode()
    write_bytes(path, content)
    return f"wrote {path}: {len(content) / 1000:.0f} KB, complete in itself"
