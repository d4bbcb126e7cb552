"""Weights & Biases: a project per run of tuner, a run of it per trial, grouped by stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.core.result import Record
from tuner.workflow.trackers import Tracked

ENDED_WELL = ("completed", "stopped")


class Tracker:
    """Writes through wandb's runs, several of which may be open at once."""

    def __init__(self, run_dir: Path, name: str) -> None:
        self.run_dir, self.project = run_dir, name
        self._runs: dict[str, Any] = {}

    def begin(self, trial: Tracked) -> None:
        import wandb

        self.run_dir.mkdir(parents=True, exist_ok=True)
        self._runs[trial.id] = wandb.init(
            project=self.project,
            group=trial.stage,
            name=trial.name,
            config={**trial.params, "trial": trial.id},
            dir=self.run_dir,
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )

    def row(self, trial: Tracked, step: int, values: Mapping[str, float]) -> None:
        if trial.id in self._runs:
            self._runs[trial.id].log(dict(values), step=step)

    def end(self, trial: Tracked, record: Record) -> None:
        run = self._runs[trial.id]
        run.summary.update({"score": record.measured_score, "status": record.result.status})
        if record.result.status not in ENDED_WELL or record.item.until_epoch is None:
            self._runs.pop(trial.id).finish(exit_code=0 if record.result.status in ENDED_WELL else 1)

    def close(self) -> None:
        for run in self._runs.values():
            run.finish()
