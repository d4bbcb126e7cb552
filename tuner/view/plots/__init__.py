"""The plots of a stage, as PNG files: one module per stage, found by its name.

A module has `figures(result, stage_dir) -> dict[str, Figure]`: file name without ending -> what to draw. It reads
artifacts only. Figures are made without pyplot, so nothing global is touched, no display is needed, and they can be
drawn in a thread.
"""

from __future__ import annotations

import io
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

from tuner.core.result import StageResult
from tuner.core.store import write_bytes
from tuner.view.console import stage_module

DPI = 150


def draw(result: StageResult[Any], stage_dir: Path) -> list[Path]:
    """Draw the plots of a stage into `stage_dir/plots`, which appears when all are written, and return their paths."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    module = stage_module("tuner.view.plots", result.stage)
    folder, unfinished = stage_dir / "plots", stage_dir / ".plots"
    shutil.rmtree(unfinished, ignore_errors=True)
    names = []
    for name, figure in module.figures(result, stage_dir).items():
        content = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a class name in a script that the font lacks
            figure.set(dpi=DPI, facecolor="white")
            FigureCanvasAgg(figure).print_png(content)  # `savefig` would lay everything out twice
        write_bytes(unfinished / f"{name}.png", content.getvalue(), synced=False)
        names.append(f"{name}.png")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(unfinished, folder)
    return [folder / name for name in names]
