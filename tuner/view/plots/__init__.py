"""The plots of a stage, as PNG files: one module per stage, found by its name.

A module has `figures(result, stage_dir) -> dict[str, Figure]`: file name without ending -> what to draw. It reads
artifacts only. Figures are made without pyplot, so nothing global is touched and no display is needed.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

from tuner.core.result import StageResult
from tuner.core.store import write_bytes
from tuner.view.console import stage_module

DPI = 150


def draw(result: StageResult[Any], stage_dir: Path) -> list[Path]:
    """Draw the plots of a stage into `stage_dir/plots`, each written whole, and return their paths."""
    module = stage_module("tuner.view.plots", result.stage)
    paths = []
    for name, figure in module.figures(result, stage_dir).items():
        content = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class name in a script that the font lacks
            figure.savefig(content, format="png", dpi=DPI, facecolor="white")
        path = stage_dir / "plots" / f"{name}.png"
        write_bytes(path, content.getvalue())
        paths.append(path)
    return paths
