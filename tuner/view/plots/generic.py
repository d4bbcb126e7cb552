"""Any stage that has no plots of its own: the curves of its trials, where there are any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuner.core.result import StageResult
from tuner.view import artifacts
from tuner.view.plots import style
from tuner.view.plots.style import Figure
from tuner.view.text import with_unit


def figures(result: StageResult[Any], stage_dir: Path) -> dict[str, Figure]:
    """Draw the val loss of every trial by epoch."""
    figure, ((ax,),) = style.sheet(style.headline(result))
    drawn = 0
    for path in sorted((stage_dir / "curves").glob("*.csv")):
        x, y = style.pairs(*artifacts.column(artifacts.read_csv(path), "val", "epoch", "loss"))
        ax.plot(x, y, color=style.BLUE, alpha=0.6)
        drawn += bool(x)
    if not drawn:
        style.empty(ax, "no trial of this stage has a curve")
    style.label(ax, "epoch", with_unit("val loss", artifacts.loss_in_nats(stage_dir)))
    return {"curves": figure}
