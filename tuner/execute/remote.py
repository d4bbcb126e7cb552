"""A trial on another machine: what is sent, what is done with it there, and what comes back.

A `Job` and an `Answer` are JSON; every file that belongs to them (the user's modules, weights, an unfinished state,
decoded data) is named in it by its sha256, and its content lies where `Blobs` keep it: a folder, or the memory of a
cluster. Only the coordinator writes into the run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

from tuner.core.cached import DECODED, cache_folder
from tuner.core.errors import EnvironmentProblem, InputError, TunerError, text_of
from tuner.core.inventory import Gpu, without_gpus
from tuner.core.locks import Held, hold
from tuner.core.memory import NOTHING, Foreseen
from tuner.core.preflight import Preflight
from tuner.core.result import TrialResult
from tuner.core.store import StageDir, writing
from tuner.core.trial import Progress, TrialEnv, WorkItem
from tuner.core.values import from_json, to_json
from tuner.execute.deadlines import Deadlines
from tuner.execute.processes import ProcessExecutor
from tuner.execute.slots import Wish
from tuner.execute.travel import AGAIN, Blobs, fetched, packed, recipe_dir, share_decoded, within

WORKPLACE = "tuner-job-"  # how the temporary folders of jobs begin
NEW_SECONDS = 60.0  # that a folder whose lock is free is taken for one that is just being made


@dataclass(frozen=True)
class Job:
    """What is to be done somewhere: a trial (`value`: its WorkItem) or a preflight (the recipe's tables), as JSON.

    `stage`: the name of its stage's folder. `files`, `user_files`, `decoded`: {path: sha256}, relative to the run, to
    the recipe's folder, to the folder of decoded data. `deadline`: `--deadline`. `more_than_bytes`: of memory, which
    was too little for it elsewhere.
    """

    task: Literal["trial", "preflight"]
    value: Mapping[str, Any]
    recipe_dir: str
    stage: str
    device: str
    files: Mapping[str, str] = field(default_factory=dict)
    user_files: Mapping[str, str] = field(default_factory=dict)
    decoded: Mapping[str, str] = field(default_factory=dict)
    deadline: float | None = None
    more_than_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Job:
        return cls(**value)


@dataclass(frozen=True)
class Answer:
    """What came of a job: a result, a Preflight or an error, as JSON, and the files that it left, {path: sha256}.

    `memory_bytes`: that a trial may have where it was done; None: not known.
    """

    kind: Literal["result", "preflight", "raised"]
    value: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)
    memory_bytes: int | None = None

    @property
    def lacked_bytes(self) -> int | None:
        """The memory that was too little for the trial, or is foreseen to be; None: it did not lack any."""
        lacked = self.kind == "result" and (self.value["error"] or {}).get("kind") == "oom"
        return self.memory_bytes if lacked else None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Answer:
        return cls(**value)

    @classmethod
    def raised(cls, error: Exception) -> Answer:
        """Return the answer of a machine that could not carry a job out; a bug there ends the command as well."""
        if isinstance(error, FileNotFoundError):
            error = InputError(f"a file of a trial is missing: {error.filename}", AGAIN)
        elif not isinstance(error, TunerError):
            error = EnvironmentProblem(text_of(error), "That machine's own output says more.")
        return cls("raised", {"error": type(error).__name__, "message": error.message, "hint": error.hint})


@dataclass(frozen=True)
class Outfit:
    """What a machine gives to a job: a GPU, and who hears of it. `tick` is called every second, and may end it.

    `on_progress`: with the file of a trial's best weights so far, which is there when the progress says so.
    `memory_bytes`: that a trial may have here; `foreseen`: what its need is predicted by.
    """

    gpu: str | None = None
    on_progress: Callable[[Progress, Path | None], None] = lambda progress, weights: None
    tick: Callable[[], None] = lambda: None
    memory_bytes: int | None = None
    foreseen: Foreseen = NOTHING


def job_of(
    item: WorkItem, env: TrialEnv, blobs: Blobs, decoded: Mapping[str, str] = {}, deadline: float | None = None
) -> Job:
    """Pack a trial with the files that it reads: the user's modules, its own state, weights that it evaluates."""
    assert env.stage_dir is not None
    run, stage = env.stage_dir.parent, env.stage_dir.name
    wanted = {*_own_files(stage, item), *(text for text in _texts(item.spec.measure) if text.endswith(".pt"))}
    return Job(
        task="trial",
        value=item.to_json(),
        recipe_dir=str(env.recipe_dir),
        stage=stage,
        device=env.device,
        files={name: blobs.put(run / name) for name in sorted(wanted) if (run / name).is_file()},
        user_files=packed(item.spec.user_files, env.recipe_dir, blobs),
        decoded=decoded,
        deadline=deadline,
    )


def preflight_of(
    recipe: Mapping[str, Any], env: TrialEnv, blobs: Blobs, user_files: Mapping[str, str], deadline: float | None = None
) -> Job:
    """Pack the check of a recipe."""
    assert env.stage_dir is not None
    files = packed(user_files, env.recipe_dir, blobs)
    return Job("preflight", recipe, str(env.recipe_dir), env.stage_dir.name, env.device, {}, files, {}, deadline)


def decoded_of(answer: Preflight, blobs: Blobs) -> dict[str, str]:
    """Keep the decoded data that a preflight has read on this machine; return {name: sha256}."""
    there = {name: cache_folder() / DECODED / name for name in answer.decoded}
    return {name: blobs.put(path) for name, path in there.items() if path.is_file()}


def carry_out(job: Job, blobs: Blobs, outfit: Outfit = Outfit()) -> Answer:
    """Do a job on this machine, in a worker process of our own; what it leaves is put into `blobs`.

    Raises:
        InputError: "arrived damaged", "lies outside the folder of the recipe".
        FileNotFoundError: a content that it needs is not there any more.
    """
    with _workplace() as folder:
        run = folder / "run"
        for name, digest in job.files.items():
            fetched(blobs, digest, within(run, name))
        there = recipe_dir(job.recipe_dir, job.user_files, blobs, folder)
        room = outfit.foreseen.room(outfit.memory_bytes)
        env = TrialEnv(there, run / job.stage, job.device, cache_folder(), room=room)
        for name, digest in job.decoded.items():
            share_decoded(name, digest, blobs)
        executor = _executor(job, outfit, _best_so_far(job, run / job.stage))
        try:
            return replace(_done(job, executor, env, blobs), memory_bytes=outfit.memory_bytes)
        except TunerError as error:
            return Answer.raised(error)
        finally:
            executor.close()


@contextlib.contextmanager
def _workplace() -> Iterator[Path]:
    """Give a temporary folder for a job; delete those that were left by workers which were killed."""
    for lock in Path(tempfile.gettempdir()).glob(f"{WORKPLACE}*/lock"):
        with contextlib.suppress(OSError, Held):
            if time.time() - lock.stat().st_mtime > NEW_SECONDS:
                with hold(lock, tell=lambda text: None):
                    shutil.rmtree(lock.parent, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(prefix=WORKPLACE, ignore_cleanup_errors=True) as folder,
        hold(Path(folder) / "lock", on_wait=lambda: None, tell=lambda text: None),
    ):
        yield Path(folder)


def take_in(answer: Answer, item: WorkItem, env: TrialEnv, blobs: Blobs) -> TrialResult:
    """Write what a trial left into the run, delete what it used up, and return its result.

    Raises:
        TunerError: the machine could not carry the trial out.
        InputError: "arrived damaged".
        EnvironmentProblem: "cannot write"; or a content is not there.
    """
    assert env.stage_dir is not None
    if answer.kind == "raised":
        raise_again(answer)
    run = env.stage_dir.parent
    names = _own_files(env.stage_dir.name, item)
    arrived = {
        name: (run / name).with_name(f".{Path(name).name}.arrived.tmp") for name in names if name in answer.files
    }
    try:
        with writing(env.stage_dir):
            for name, path in arrived.items():
                fetched(blobs, answer.files[name], path)
            for name in names:
                if name in arrived:
                    os.replace(arrived[name], run / name)
                else:
                    (run / name).unlink(missing_ok=True)
    finally:
        for path in arrived.values():
            path.unlink(missing_ok=True)
    return TrialResult.from_json(answer.value)


def preflight_in(answer: Answer) -> Preflight:
    """Return what a preflight elsewhere has found.

    Raises:
        TunerError: what it raised there.
    """
    if answer.kind == "raised":
        raise_again(answer)
    return from_json(Preflight, answer.value)


def raise_again(answer: Answer) -> NoReturn:
    """Raise the error that a job ended with elsewhere."""
    known = {kind.__name__: kind for kind in TunerError.__subclasses__()}
    raise known.get(answer.value["error"], EnvironmentProblem)(answer.value["message"], answer.value["hint"])


def _done(job: Job, executor: ProcessExecutor, env: TrialEnv, blobs: Blobs) -> Answer:
    if job.task == "preflight":
        found = executor.preflight(job.value, env)
        return Answer("preflight", to_json(found), decoded_of(found, blobs))
    assert env.stage_dir is not None
    item, run = WorkItem.from_json(job.value), env.stage_dir.parent
    (result,) = executor.run([item], env)
    kept = {name: run / name for name in _own_files(job.stage, item) if (run / name).is_file()}
    return Answer("result", result.to_json(), {name: blobs.put(path) for name, path in kept.items()})


def _best_so_far(job: Job, stage_dir: Path) -> Path | None:
    return StageDir(stage_dir).so_far(WorkItem.from_json(job.value).spec.id) if job.task == "trial" else None


def _executor(job: Job, outfit: Outfit, so_far: Path | None) -> ProcessExecutor:
    gpus = () if outfit.gpu is None else (Gpu(outfit.gpu, "", 0, 0),)
    inventory = replace(without_gpus(), gpus=gpus, mps=job.device == "mps")
    wish = Wish(job.device, workers=1)

    def hear(progress: Progress) -> None:
        outfit.on_progress(progress, so_far)

    return ProcessExecutor(wish, hear, Deadlines(job.deadline), inventory, tick=outfit.tick)


def _own_files(stage: str, item: WorkItem) -> list[str]:
    """Return the paths, relative to the run, of the files that a trial writes."""
    folder = StageDir(Path(stage))
    return [path.as_posix() for path in (folder.checkpoint(item.spec.id), folder.state(item.spec.id))]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)
