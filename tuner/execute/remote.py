"""A trial on another machine: what is sent, what is done with it there, and what comes back. JSON and named bytes only.

Only the coordinator writes into the run's folder: a trial's files (weights, an unfinished state) travel as bytes, each
with its sha256, under the path that they have relative to the run.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tuner.core.errors import InputError
from tuner.core.inventory import Gpu, Inventory, without_gpus
from tuner.core.result import TrialResult
from tuner.core.store import sha256, write_bytes
from tuner.core.trial import TrialEnv, WorkItem
from tuner.execute.deadlines import Deadlines
from tuner.execute.processes import ProcessExecutor
from tuner.execute.slots import Wish

KEPT = "checkpoints"  # the folder of a stage whose files are a trial's


@dataclass(frozen=True)
class Job:
    """A trial to carry out somewhere. `stage`: the name of its stage's folder; `files`, `user_files`: {path: bytes},
    relative to the run and to the recipe's folder; `deadline`: `--deadline`.
    """

    item: Mapping[str, Any]
    recipe_dir: str
    stage: str
    device: str
    files: Mapping[str, bytes]
    user_files: Mapping[str, bytes]
    deadline: float | None = None


@dataclass(frozen=True)
class Answer:
    """What came of it: the result as JSON, and the trial's files by path and by sha256."""

    result: Mapping[str, Any]
    files: Mapping[str, str]
    blobs: Mapping[str, bytes]


def job_of(item: WorkItem, env: TrialEnv, deadline: float | None) -> Job:
    """Pack a trial with the files that it reads: the user's modules, its own state, weights that it evaluates."""
    assert env.stage_dir is not None
    run, stage = env.stage_dir.parent, env.stage_dir.name
    wanted = {*_own_files(stage, item), *(text for text in _texts(item.spec.measure) if text.endswith(".pt"))}
    return Job(
        item=item.to_json(),
        recipe_dir=str(env.recipe_dir),
        stage=stage,
        device=env.device,
        files={name: (run / name).read_bytes() for name in sorted(wanted) if (run / name).is_file()},
        user_files={name: (env.recipe_dir / name).read_bytes() for name in item.spec.user_files},
        deadline=deadline,
    )


def carry_out(job: Job, gpu: str | None = None) -> Answer:
    """Run a job on this machine, in a worker process of our own; `gpu`: the one that it may use."""
    item = WorkItem.from_json(job.item)
    with tempfile.TemporaryDirectory(prefix="tuner-") as folder:
        run = Path(folder) / "run"
        for name, content in job.files.items():
            write_bytes(_within(run, name), content)
        env = TrialEnv(_recipe_dir(job, item, Path(folder)), run / job.stage)
        wish = Wish("cuda" if gpu is not None else "cpu", workers=1)
        executor = ProcessExecutor(wish, lambda progress: None, Deadlines(job.deadline), _inventory(gpu))
        (result,) = executor.run([item], env)
        kept = {name: run / name for name in _own_files(job.stage, item) if (run / name).is_file()}
        files = {name: sha256(path) for name, path in kept.items()}
        return Answer(result.to_json(), files, {files[name]: path.read_bytes() for name, path in kept.items()})


def take_in(answer: Answer, item: WorkItem, env: TrialEnv) -> TrialResult:
    """Write what a trial left into the run, delete what it used up, and return its result.

    Raises:
        InputError: "arrived damaged".
    """
    assert env.stage_dir is not None
    run = env.stage_dir.parent
    for name in _own_files(env.stage_dir.name, item):
        if name not in answer.files:
            (run / name).unlink(missing_ok=True)
            continue
        content = answer.blobs[answer.files[name]]
        if hashlib.sha256(content).hexdigest() != answer.files[name]:
            raise InputError(f"{name}: arrived damaged from another machine", "Give the same command again.")
        write_bytes(run / name, content)
    return TrialResult.from_json(answer.result)


def _own_files(stage: str, item: WorkItem) -> list[str]:
    """Return the paths, relative to the run, of the files that a trial writes."""
    return [f"{stage}/{KEPT}/{item.spec.id}{ending}" for ending in (".pt", ".state.pt")]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)


def _recipe_dir(job: Job, item: WorkItem, folder: Path) -> Path:
    """Return the recipe's folder where this machine sees the same files in it, else one with those that were sent."""
    there = Path(job.recipe_dir)
    if there.is_dir() and all(
        (there / name).is_file() and sha256(there / name) == digest for name, digest in item.spec.user_files.items()
    ):
        return there
    for name, content in job.user_files.items():
        write_bytes(_within(folder / "recipe", name), content)
    return folder / "recipe"


def _within(folder: Path, name: str) -> Path:
    """Return the path of a file that was sent, which must lie below its folder."""
    path = Path(os.path.normpath(folder / name))
    if not path.is_relative_to(folder):
        raise InputError(f"{name}: lies outside the folder of the recipe", "Put the file beside the recipe.")
    return path


def _inventory(gpu: str | None) -> Inventory:
    here = without_gpus()
    return here if gpu is None else replace(here, gpus=(Gpu(gpu, "", 0, 0),))
