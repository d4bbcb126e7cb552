"""The HTML page of a run, written to a file."""

from __future__ import annotations

from pathlib import Path

from tuner.core.errors import InputError
from tuner.core.store import read_json, write_bytes
from tuner.workflow.status import Overview


def write_page(run: Overview, path: Path) -> str:
    """Write the page of a run's finished steps, and return the line that says so.

    Raises:
        InputError: no step has finished.
    """
    from tuner.view.html.page import Step, page_of

    labels = [row.ref.label for row in run.rows if row.result is not None]
    steps = [Step(label, read_json(run.path / label / "result.json")) for label in labels]
    if not steps:
        raise InputError(f"no step of {run.path} has finished", "tuner run RECIPE begins with step 1.")
    content = page_of(run.path, steps, run.path.name).encode()
    write_bytes(path, content)
    return f"wrote {path}: {len(content) / 1000:.0f} KB, complete in itself"
