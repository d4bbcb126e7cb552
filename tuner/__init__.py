"""tuner: the deep-learning tuning checklist as a program."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.api.checking import check
    from tuner.api.running import run
    from tuner.api.watching import watch
    from tuner.workflow.compare import Comparison
    from tuner.workflow.run_folder import Run

__version__ = "0.1.0"
__all__ = ["check", "compare", "open_run", "run", "watch"]

_ELSEWHERE = {"check": "checking", "run": "running", "watch": "watching"}  # what is imported when it is asked for


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module 'tuner' has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.api.{_ELSEWHERE[name]}"), name)


def open_run(path: str | Path) -> Run:
    """Open the folder of a run, or its name in runs/: `tuner.open_run("runs/digits").trials()` is a DataFrame."""
    from tuner.workflow.run_folder import Run, folder_of

    return Run(folder_of(path))


def compare(a: str | Path, b: str | Path) -> Comparison:
    """Compare two runs by their folders: `print(tuner.compare("runs/a", "runs/b"))` says which winner is better."""
    from tuner.workflow.compare import compare

    return compare(a, b)
