"""A trial on another machine: what is sent, what is done with it there, and what comes back.

A `Job` and an `Answer` are JSON; every file that belongs to them (the user's modules, weights, an unfinished state,
decoded data) is named in it by its sha256, and its content lies where `Blobs` keep it: a folder, or the memory of a
cluster. Only the coordinator writes into the run.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol

from tuner.core import errors
from tuner.core.cached import DECODED, cache_folder
from tuner.core.errors import InputError, TunerError
from tuner.core.inventory import Gpu, without_gpus
from tuner.core.locks import hold
from tuner.core.preflight import Preflight
from tuner.core.result import TrialResult
from tuner.core.store import sha256
from tuner.core.trial import TrialEnv, WorkItem
from tuner.core.values import from_json, to_json
from tuner.execute.base import OnProgress
from tuner.execute.deadlines import Deadlines
from tuner.execute.processes import ProcessExecutor
from tuner.execute.slots import Wish

KEPT = "checkpoints"  # the folder of a stage whose files are a trial's
AGAIN = "Give the same command again."


class Blobs(Protocol):
    """Contents by their sha256."""

    def put(self, path: Path) -> str:
        """Keep the content of a file, once however often it is put; return its sha256 (hex)."""

    def fetch(self, digest: str, to: Path) -> None:
        """Write a content to a file; FileNotFoundError: it is not there."""


@dataclass(frozen=True)
class Job:
    """What is to be done somewhere: a trial (`value`: its WorkItem) or a preflight (the recipe's tables), as JSON.

    `stage`: the name of its stage's folder. `files`, `user_files`, `decoded`: {path: sha256}, relative to the run, to
    the recipe's folder, to the folder of decoded data. `deadline`: `--deadline`.
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

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Job:
        return cls(**value)


@dataclass(frozen=True)
class Answer:
    """What came of a job: a result, a Preflight or an error, as JSON, and the files that it left, {path: sha256}."""

    kind: Literal["result", "preflight", "raised"]
    value: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Answer:
        return cls(**value)

    @classmethod
    def raised(cls, error: TunerError) -> Answer:
        return cls("raised", {"error": type(error).__name__, "message": error.message, "hint": error.hint})


@dataclass(frozen=True)
class Outfit:
    """What a machine gives to a job: a GPU, and who hears of it. `tick` is called every second, and may end it."""

    gpu: str | None = None
    on_progress: OnProgress = lambda progress: None
    tick: Callable[[], None] = lambda: None


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
        user_files=_packed(item.spec.user_files, env.recipe_dir, blobs),
        decoded=decoded,
        deadline=deadline,
    )


def preflight_of(
    recipe: Mapping[str, Any], env: TrialEnv, blobs: Blobs, user_files: Mapping[str, str], deadline: float | None = None
) -> Job:
    """Pack the check of a recipe."""
    assert env.stage_dir is not None
    packed = _packed(user_files, env.recipe_dir, blobs)
    return Job("preflight", recipe, str(env.recipe_dir), env.stage_dir.name, env.device, {}, packed, {}, deadline)


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
    with tempfile.TemporaryDirectory(prefix="tuner-", ignore_cleanup_errors=True) as folder:
        run = Path(folder) / "run"
        for name, digest in job.files.items():
            _fetched(blobs, digest, _within(run, name))
        env = TrialEnv(_recipe_dir(job, blobs, Path(folder)), run / job.stage, job.device, cache_folder())
        for name, digest in job.decoded.items():
            _share_decoded(name, digest, blobs)
        executor = _executor(job, outfit)
        try:
            return _done(job, executor, env, blobs)
        except TunerError as error:
            return Answer.raised(error)
        finally:
            executor.close()


def take_in(answer: Answer, item: WorkItem, env: TrialEnv, blobs: Blobs) -> TrialResult:
    """Write what a trial left into the run, delete what it used up, and return its result.

    Raises:
        TunerError: the machine could not carry the trial out.
        InputError: "arrived damaged".
        FileNotFoundError: a content is not there.
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
        for name, path in arrived.items():
            _fetched(blobs, answer.files[name], path)
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
    raise known.get(answer.value["error"], errors.EnvironmentProblem)(answer.value["message"], answer.value["hint"])


def _done(job: Job, executor: ProcessExecutor, env: TrialEnv, blobs: Blobs) -> Answer:
    if job.task == "preflight":
        found = executor.preflight(job.value, env)
        return Answer("preflight", to_json(found), decoded_of(found, blobs))
    assert env.stage_dir is not None
    item, run = WorkItem.from_json(job.value), env.stage_dir.parent
    (result,) = executor.run([item], env)
    kept = {name: run / name for name in _own_files(job.stage, item) if (run / name).is_file()}
    return Answer("result", result.to_json(), {name: blobs.put(path) for name, path in kept.items()})


def _executor(job: Job, outfit: Outfit) -> ProcessExecutor:
    gpus = () if outfit.gpu is None else (Gpu(outfit.gpu, "", 0, 0),)
    inventory = replace(without_gpus(), gpus=gpus, mps=job.device == "mps")
    wish = Wish(job.device, workers=1)
    return ProcessExecutor(wish, outfit.on_progress, Deadlines(job.deadline), inventory, tick=outfit.tick)


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


def _packed(user_files: Mapping[str, str], recipe_dir: Path, blobs: Blobs) -> dict[str, str]:
    """Keep the files of the recipe's folder; what it names by a path of the machine must be there on every machine."""
    relative = [name for name in user_files if not (os.path.isabs(name) or name.startswith(("~", "$")))]
    return {name: blobs.put(recipe_dir / name) for name in relative if (recipe_dir / name).is_file()}


def _recipe_dir(job: Job, blobs: Blobs, folder: Path) -> Path:
    """Return the recipe's folder where this machine sees the same files in it, else one with those that were sent."""
    there = Path(job.recipe_dir)
    if there.is_dir() and all(
        (there / name).is_file() and sha256(there / name) == digest for name, digest in job.user_files.items()
    ):
        return there
    for name, digest in job.user_files.items():
        _fetched(blobs, digest, _within(folder / "recipe", name))
    return folder / "recipe"


def _fetched(blobs: Blobs, digest: str, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    blobs.fetch(digest, to)
    if sha256(to) != digest:
        to.unlink()
        raise InputError(f"{to.name}: arrived damaged from another machine", AGAIN)


def _share_decoded(name: str, digest: str, blobs: Blobs) -> None:
    """Put decoded data that were sent into this machine's cache, once; where that fails the trial decodes them."""
    path = cache_folder() / DECODED / Path(name).name
    if path.exists():
        return
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with suppress(OSError, InputError), hold(_made(path.with_suffix(".lock")), on_wait=lambda: None):
        if path.exists():
            return
        try:
            _fetched(blobs, digest, temporary)
            temporary.chmod(0o644)  # what others can write is not loaded
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _within(folder: Path, name: str) -> Path:
    """Return the path of a file that was sent, which must lie below its folder."""
    path = Path(os.path.normpath(folder / name))
    if not path.is_relative_to(folder):
        raise InputError(f"{name}: lies outside the folder of the recipe", "Put the file beside the recipe.")
    return path
