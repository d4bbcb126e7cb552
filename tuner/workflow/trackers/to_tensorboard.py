"""TensorBoard: event files in the run's folder, one folder per trial, and the table of hyperparameters."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.core.formatting import value_text
from tuner.core.result import Record
from tuner.workflow.trackers import Tracked

FLUSH_SECONDS = 5


class Tracker:
    """Writes `tensorboard/<stage>-<number>-<id>/`; `tensorboard --logdir <run>/tensorboard` shows them live."""

    def __init__(self, run_dir: Path, name: str) -> None:
        self.folder = run_dir / "tensorboard"
        self._writers: dict[str, Any] = {}

    def begin(self, trial: Tracked) -> None:
        from tensorboard.plugins.hparams import summary_v2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        writer = EventFileWriter(str(self.folder / trial.name), flush_secs=FLUSH_SECONDS)
        self._writers[trial.id] = writer
        hparams = {key: _plain(value) for key, value in {"stage": trial.stage, **trial.params}.items()}
        self._add(trial, summary_v2.hparams_pb(hparams, trial_id=trial.name), 0)

    def row(self, trial: Tracked, step: int, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._add(trial, Summary(value=points), step)

    def end(self, trial: Tracked, record: Record) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        if record.result.score is not None:
            self._add(trial, Summary(value=[Summary.Value(tag="score", simple_value=record.measured_score)]), 0)
        self._writers[trial.id].flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _add(self, trial: Tracked, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writers[trial.id].add_event(Event(wall_time=time.time(), step=step, summary=summary))


def _plain(value: Any) -> bool | float | str:
    """Return a value of the recipe as the table of hyperparameters takes it."""
    return value if isinstance(value, (bool, int, float, str)) else value_text(value)
