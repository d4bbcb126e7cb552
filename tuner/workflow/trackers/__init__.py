"""Experiment trackers that hear of a run while it runs, beside its own folder: `--log tensorboard`.

Adding one is adding a module `to_<name>` with a class `Tracker(run_dir, name)` that hears what `Tracker` below says,
and its name in `PACKAGES`. What its library reads from the environment (an address, a key) stays its own affair.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tuner.core.errors import EnvironmentProblem, UsageError, did_you_mean
from tuner.core.result import Record
from tuner.core.stage_ref import StageRef
from tuner.core.trial import Progress, WorkItem

PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}  # name of --log -> what it imports
NAMES = tuple(PACKAGES)
PLACE = ("step", "epoch", "split")


@dataclass(frozen=True)
class Tracked:
    """A trial as trackers show it: one run of theirs. `params`: what the search varies, and the seed."""

    stage: str
    number: int
    id: str
    params: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.stage}-{self.number:03d}-{self.id[:6]}"


class Tracker(Protocol):
    """What a tracker hears of."""

    def begin(self, trial: Tracked) -> None: ...
    def row(self, trial: Tracked, step: int, values: Mapping[str, float]) -> None: ...
    def end(self, trial: Tracked, record: Record) -> None: ...
    def close(self) -> None: ...


def trackers(names: Sequence[str], run_dir: Path, run_name: str) -> list[Tracker]:
    """Return the trackers of these names, ready to hear.

    Raises:
        UsageError: "unknown tracker".
        EnvironmentProblem: the package is not installed.
    """
    found = []
    for name in dict.fromkeys(names):
        if name not in NAMES:
            known = did_you_mean(name, NAMES)
            raise UsageError(f"--log: unknown tracker {name!r}{known}", f"One of: {', '.join(NAMES)}.")
        try:
            importlib.import_module(PACKAGES[name])
        except ImportError:
            problem = f"--log {name} needs {PACKAGES[name]}, which is not installed"
            raise EnvironmentProblem(problem, "pip install 'tuner[log]'") from None
        module = importlib.import_module(f"{__name__}.to_{name}")
        found.append(module.Tracker(run_dir, run_name))
    return found


class Journal:
    """Tells the trackers of the trials that run: each row of a curve once, as soon as it is known."""

    def __init__(self, heard_by: Sequence[Tracker] = ()) -> None:
        self.heard_by = list(heard_by)
        self._running: dict[int, Tracked] = {}
        self._begun: set[str] = set()
        self._told: dict[str, set[tuple[Any, ...]]] = {}

    def expect(self, ref: StageRef, items: Sequence[WorkItem]) -> None:
        """Hear which trials run next, or beside those that run."""
        self._running |= {
            item.number: Tracked(ref.label, item.number, item.spec.id, {**item.spec.overrides, "seed": item.spec.seed})
            for item in items
        }

    def hear(self, progress: Progress) -> None:
        """Pass on the rows that a running trial has added to its curve."""
        if progress.rows and progress.number in self._running:
            self._tell(self._running[progress.number], progress.rows)

    def end(self, record: Record) -> None:
        """Pass on what of a finished trial was not told while it ran, and how it ended."""
        trial = self._running.get(record.number)
        if trial is None or not self.heard_by:
            return
        self._tell(trial, record.result.curve)
        for tracker in self.heard_by:
            tracker.end(trial, record)

    def close(self) -> None:
        for tracker in self.heard_by:
            tracker.close()

    def _tell(self, trial: Tracked, rows: Sequence[Mapping[str, Any]]) -> None:
        if trial.id not in self._begun:
            self._begun.add(trial.id)
            for tracker in self.heard_by:
                tracker.begin(trial)
        told = self._told.setdefault(trial.id, set())
        for row in rows:
            place = tuple(row.get(key) for key in PLACE)
            if place in told:
                continue
            told.add(place)
            values = {f"{row['split']}/{key}": float(value) for key, value in row.items() if _is_value(key, value)}
            for tracker in self.heard_by:
                tracker.row(trial, int(row["step"]), values)


def _is_value(key: str, value: Any) -> bool:
    return key not in PLACE and isinstance(value, (int, float)) and not isinstance(value, bool)
