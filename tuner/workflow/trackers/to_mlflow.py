"""MLflow: an experiment per run of tuner, a run of it per trial. Where to is MLflow's own MLFLOW_TRACKING_URI."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.core.formatting import value_text
from tuner.core.result import Record
from tuner.workflow.trackers import Tracked

ENDED = {"completed": "FINISHED", "stopped": "FINISHED", "diverged": "FAILED", "failed": "FAILED"}


class Tracker:
    """Writes through MLflow's client, which may have several runs open at once."""

    def __init__(self, run_dir: Path, name: str) -> None:
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        known = self._client.get_experiment_by_name(name)
        self._experiment = known.experiment_id if known is not None else self._client.create_experiment(name)
        self._runs: dict[str, str] = {}

    def begin(self, trial: Tracked) -> None:
        tags = {"stage": trial.stage, "trial": trial.id}
        run = self._client.create_run(self._experiment, run_name=trial.name, tags=tags)
        self._runs[trial.id] = run.info.run_id
        for key, value in trial.params.items():
            self._client.log_param(run.info.run_id, key, value_text(value))

    def row(self, trial: Tracked, step: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        metrics: list[Any] = [Metric(key, value, now, step) for key, value in values.items()]
        self._client.log_batch(self._runs[trial.id], metrics=metrics)

    def end(self, trial: Tracked, record: Record) -> None:
        run = self._runs[trial.id]
        if record.result.score is not None:
            self._client.log_metric(run, "score", record.measured_score)
        self._client.set_terminated(run, ENDED[record.result.status])

    def close(self) -> None:
        """Leave the runs as they are: each was ended with its trial."""
