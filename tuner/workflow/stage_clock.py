"""How long a stage takes, its interrupted attempts included: what a budget is held against."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuner.core.errors import EnvironmentProblem, InputError
from tuner.core.manifest import Provenance
from tuner.core.safe_files import kind_problem
from tuner.core.store import StageDir, read_json, write_json
from tuner.core.trial import digest

KINDS = {
    "made_from": str,
    "wall_seconds": (int, float),
    "attempts": int,
    "reused_trials": (int, type(None)),
    "began_at": (int, float),
}
KEPT_SECONDS = 10.0  # how often the clock is written down while trials end: a kill loses no more than this and a trial


@dataclass
class Attempts:
    """The clock of a stage. `count`: attempts, this one included; `reused`: trials that were there before the first.

    `began_at`: when the first one began, as seconds since 1970; no two that end with a result have the same.
    """

    path: Path
    made_from: str
    count: int = 1
    earlier_seconds: float = 0.0
    reused: int | None = None
    began_at: float = field(default_factory=time.time)
    started: float = field(default_factory=time.monotonic)
    kept: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """The wall seconds of all attempts together."""
        return round(self.earlier_seconds + time.monotonic() - self.started, 3)

    def found(self, trials: int) -> None:
        """Note how many trials are there already; those of an earlier attempt are part of what is timed."""
        self.reused = trials if self.reused is None else self.reused

    def to_json(self) -> dict[str, Any]:
        """Return what the manifest says of it."""
        told = {"began_at": self.began_at, "wall_seconds": self.seconds, "attempts": self.count}
        return {**told, "reused_trials": self.reused}

    def tick(self) -> bool:
        """Write the clock down now and then; return whether this is such a time."""
        due = time.monotonic() - self.kept >= KEPT_SECONDS
        if due:
            self.keep()
        return due

    def keep(self) -> None:
        """Write the clock down, for the attempt that goes on after this one."""
        self.kept = time.monotonic()
        write_json(self.path, {"made_from": self.made_from, **self.to_json()})


def clock_file(folder: StageDir) -> Path:
    """Return the file of a stage's clock, which is there until the stage has written its last file."""
    return folder.path / ".attempts.json"


@contextmanager
def timed(folder: StageDir, made_from: Provenance) -> Iterator[Attempts]:
    """Time an attempt of a stage. One that follows an interrupted attempt, made from the same things, goes on with it.

    The clock lies in a hidden file beside the trials, which is no output of the stage, until the stage is finished.
    """
    path, key = clock_file(folder), digest(vars(made_from))
    clock = Attempts(path, key)
    if path.exists() and not folder.manifest_path.exists():
        known = read_json(path)
        if wrong := kind_problem(known, KINDS):
            raise InputError(f"{path}: not what tuner wrote ({wrong})", "Delete it: then the clock starts from zero.")
        if known["made_from"] == key:
            numbers = (known[name] for name in ("wall_seconds", "reused_trials", "began_at"))
            clock = Attempts(path, key, known["attempts"] + 1, *numbers)
    try:
        yield clock
    except BaseException:
        with contextlib.suppress(EnvironmentProblem):  # what ends the attempt is said, not this
            clock.keep()
        raise
    path.unlink(missing_ok=True)
