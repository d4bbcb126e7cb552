"""Running the zoo: every case with every seed, in parallel, going on where an earlier call stopped."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.zoo import pool
from tests.zoo.case import STEPS, Case
from tests.zoo.catalog import load_cases, record_key
from tests.zoo.parts import cifar_folder
from tests.zoo.play import last_step, play
from tuner.checks.cards import loud
from tuner.core.store import write_json

TIMEOUT_SECONDS = 900.0


@dataclass(frozen=True)
class Task:
    """One run: a case with a seed, its last step, the hash of all that it depends on, and the folder of records."""

    case: str
    seed: int
    through: str
    key: str
    out: Path

    @property
    def name(self) -> str:
        return f"{self.case}-s{self.seed}"

    @property
    def path(self) -> Path:
        return self.out / "records" / f"{self.name}.json"

    def record(self) -> dict[str, Any] | None:
        """Return the stored record, None where there is none or where what it was made from has changed."""
        record = json.loads(self.path.read_text()) if self.path.is_file() else {}
        return record if record.get("key") == self.key else None

    def write(self, status: str, why: str, steps: Sequence[Mapping[str, Any]] = ()) -> None:
        """Store the run's record. `status`: done, skipped, timeout or died, the last three with the reason."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        about = {"case": self.case, "seed": self.seed, "key": self.key}
        write_json(self.path, {**about, "status": status, "why": why, "steps": list(steps)})


def run_cases(
    tasks: Sequence[Task], workers: int, say: Callable[[str], None], again: bool = False
) -> list[dict[str, Any]]:
    """Return a record of each run; those that are on disk and still hold are not made again."""
    todo = [task for task in tasks if again or task.record() is None]
    say(f"{len(tasks)} runs, {len(tasks) - len(todo)} of them done before")
    started = time.monotonic()
    for number, ended in enumerate(pool.each(_carry_out, todo, workers, TIMEOUT_SECONDS), 1):
        if ended.how != "finished":
            ended.task.write(ended.how, ended.detail)
        left = (time.monotonic() - started) / number * (len(todo) - number)
        say(f"{number}/{len(todo)} {told(ended.task.record())}  (about {left / 60:.0f} min left)")
    return done_before(tasks)


def done_before(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """Return the records that are on disk and still hold."""
    return [record for task in tasks if (record := task.record()) is not None]


def tasks_of(cases: Sequence[Case], seeds: int, out: Path, through: str = STEPS[-1]) -> list[Task]:
    """Return a run for each case and seed, none of them beyond the step `through`."""
    return [
        Task(case.name, seed, last_step(case, through), record_key(case, seed, last_step(case, through)), out)
        for seed in range(seeds)
        for case in cases
    ]


def told(record: Mapping[str, Any]) -> str:
    """Return a run in one line: the case, what its last step said and the first causes of it."""
    text = f"{record['case']} (seed {record['seed']})"
    if record["status"] != "done":
        return f"{text}: {record['status']}, {record['why']}"
    last = record["steps"][-1]
    heard = [finding for step in record["steps"] for finding in loud(step["findings"])]
    causes = ", ".join(dict.fromkeys(f"{f['cause']} ({f['severity']})" for f in heard)) or last.get("error", "")
    seconds = sum(step["seconds"] for step in record["steps"])
    return f"{text}: {last['step']} {last['verdict'] or 'error'} {causes} {seconds:.1f} s"


def _carry_out(task: Task) -> None:
    """Play one case and write its record; what it prints goes to a log of its own."""
    case = load_cases()[task.case]
    folder = task.out / "work" / task.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (task.out / "work" / f"{task.name}.log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if case.base.startswith("cifar") and cifar_folder() is None:
        task.write("skipped", "$TUNER_DATA/cifar10/train/<class>/*.jpg is not there")
        return
    try:
        task.write("done", "", play(case, task.seed, folder, task.through))
    except Exception:
        task.write("died", traceback.format_exc())
    for pattern in ("*/checkpoints/*", "*/plots/*"):  # of hundreds of runs
        for path in (folder / "run").glob(pattern):
            path.unlink()
