"""Running a trial: one function from a work item to a result. A failing trial is a result, never an exception."""

from __future__ import annotations

import contextlib
import errno
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tuner.core.errors import (
    EnvironmentProblem,
    InputError,
    TunerError,
    UsageError,
    UserCodeError,
    user_frames,
    where_in_user_code,
)
from tuner.core.result import FailureKind, Status, TrialError, TrialResult
from tuner.core.store import StageDir
from tuner.core.streams import derive_seed
from tuner.core.trial import Progress, TrialEnv, WorkItem
from tuner.recipe import registry
from tuner.train.after import after, snapshots_of
from tuner.train.device import in_full_precision, peak_memory_bytes, pick_device, seed_everything
from tuner.train.kernel_asserts import HINT, SAID, as_on_cpu, is_assertion
from tuner.train.loop import Kept, OnStep, fit, gave_up
from tuner.train.memory import refusal
from tuner.train.preflight import preflight
from tuner.train.setup import Setup, Trained, make_setup
from tuner.train.state import Training, drop_unusable_state, save_best
from tuner.train.together import met, told

__all__ = ["preflight", "run_trial"]

PROGRESS_SECONDS = 0.3
OOM_HINT = "Lower train.batch_size or the model's width, or run fewer workers."

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Outcome:
    """The part of a result that the training and the measures make."""

    status: Status
    curve: list[dict[str, Any]] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    score: float | None = None
    best_epoch: int | None = None
    error: TrialError | None = None


def run_trial(item: WorkItem, env: TrialEnv, on_progress: OnProgress | None = None) -> TrialResult:
    """Train and measure what `item` says. Nothing of an earlier trial in this process has an influence on it.

    Raises:
        EnvironmentProblem: the disk is full or the like, which is no fault of the trial.
    """
    started_at, clock = time.time(), time.perf_counter()
    device = "cpu"
    try:
        device = pick_device(env.device)
        env = replace(env, device=device)
        with contextlib.redirect_stdout(sys.stderr):  # stdout is the report's, whatever the user's code prints
            outcome = _carry_out(item, env, on_progress)
    except EnvironmentProblem:
        raise
    except (Exception, SystemExit) as error:
        outcome = Outcome("failed", error=failure(error, env.recipe_dir))
    if device.startswith("cuda"):
        with contextlib.suppress(RuntimeError):  # after a kernel's failed assertion nothing works there any more
            torch.cuda.empty_cache()
    return TrialResult(
        id=item.spec.id,
        until_epoch=item.until_epoch,
        **vars(outcome),
        wall_seconds=time.perf_counter() - clock,
        peak_memory_bytes=peak_memory_bytes(device),
        started_at=started_at,
    )


def _carry_out(item: WorkItem, env: TrialEnv, on_progress: OnProgress | None) -> Outcome:
    spec = item.spec
    registry.forget_user_modules()
    torch.set_num_threads(spec.tables["train"].get("threads_per_trial", 1))
    if item.devices != (1 if env.rank is None else env.rank.count):
        text = f"train.devices_per_trial = {item.devices}: this trial was given to one process"
        raise UsageError(text, "Run it with --engine processes.")
    setup = make_setup(spec, env)
    if spec.horizon_epochs is None and spec.horizon_steps is None:
        evidence = _measure(setup, item, on_progress)
        return Outcome("completed", _rows(evidence), _with_skipped(evidence, skipped_by(setup)))

    if (why := refusal(setup)) is not None:
        return Outcome("failed", error=TrialError("oom", f"not started: {why}", OOM_HINT))
    with met(env.rank, env.device):
        training = _trained(setup, item, on_progress)
    if not env.is_first:
        return Outcome("completed")
    return concluded(replace(setup, env=replace(env, rank=None)), training, item, on_progress)  # by this process alone


def concluded(setup: Setup, training: Training, item: WorkItem, on_progress: OnProgress | None) -> Outcome:
    """Keep what a training has come to, and make the trial's measures where it has come to its end."""
    spec = setup.spec
    skipped = {**skipped_by(setup), **training.skipped}
    if training.diverged is not None:
        _remove_state(setup)
        return Outcome("diverged", training.curve, _with_skipped({"diverged": _plain(training.diverged)}, skipped))
    best = training.best
    score, best_epoch = (best.score, best.epoch) if best is not None else (None, None)
    if best is not None:
        save_best(setup, training)
    unfinished = spec.horizon_epochs is not None and training.epoch < spec.horizon_epochs
    if training.given_up or (unfinished and not gave_up(setup, training)):
        return Outcome("stopped", training.curve, _with_skipped({}, skipped), score, best_epoch)
    if best is not None:
        training.model.load_state_dict(best.weights)
    trained = replace(setup, trained=Trained(training.model, best_epoch))
    evidence = _measure(trained, item, on_progress)
    table = setup.tables.get("after", {})
    if table and setup.data.one_class_each:
        members = partial(snapshots_of, training.model, training.snapshots)
        evidence["after"] = after(setup, setup.data, training.model, members)
    elif table.get("tta") or table.get("ensemble"):
        skipped["after"] = "answers are averaged where every example has one class"
    _remove_state(setup)
    return Outcome("completed", training.curve, _with_skipped(evidence, skipped), score, best_epoch)


def skipped_by(setup: Setup) -> dict[str, str]:
    """Return what the data do not allow to be looked at, and why."""
    return {entry.check: entry.why for entry in getattr(setup.data, "skipped", ())}


def _trained(setup: Setup, item: WorkItem, on_progress: OnProgress | None) -> Training:
    """Train; a saved state that cannot be gone on from is deleted before any process of the trial reads it."""
    if setup.env.is_first:
        drop_state(setup, item, on_progress)
    if setup.env.rank is not None:
        told(None)
    return fit(setup, item.until_epoch, throttled(item.number, on_progress))


def drop_state(setup: Setup, item: WorkItem, on_progress: OnProgress | None) -> None:
    """Delete a saved state of the trial that cannot be gone on from, and say so."""
    if (problem := drop_unusable_state(setup)) and on_progress is not None:
        on_progress(Progress(item.number, 0.0, f"trial {item.number} starts over: {problem}", lasting=True))


def _measure(setup: Setup, item: WorkItem, on_progress: OnProgress | None) -> dict[str, Any]:
    """Run the trial's measures, each under its own seed."""
    evidence: dict[str, Any] = {}
    for index, (name, args) in enumerate(setup.spec.measure.items()):
        if on_progress is not None and setup.trained is None:
            on_progress(Progress(item.number, index / len(setup.spec.measure), name))
        measure = registry.resolve("probe", name, setup.env.recipe_dir)
        kwargs = registry.bind(measure, {}, args, f"measure.{name}", positional=1)
        seed_everything(derive_seed(setup.spec.seed, "measure", name))
        with as_on_cpu(setup.env.device), in_full_precision(setup.env.device):
            found = measure(setup, **kwargs)
        evidence[name] = dict(found) if isinstance(found, Mapping) else found.to_json()
    return evidence


def _rows(evidence: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Take the rows of the curve out of the measures that made one."""
    return [row for measured in evidence.values() for row in measured.pop("curve", [])]


def _with_skipped(evidence: dict[str, Any], skipped: Mapping[str, str]) -> dict[str, Any]:
    return {**evidence, "skipped": dict(skipped)} if skipped else evidence


def _plain(diverged: Any) -> dict[str, Any]:
    """Return the divergence as a JSON value; its loss is a word: nan, inf or -inf."""
    return {**vars(diverged), "loss": str(diverged.loss)}


def _remove_state(setup: Setup) -> None:
    if setup.env.stage_dir is not None:
        StageDir(setup.env.stage_dir).state(setup.spec.id).unlink(missing_ok=True)


def throttled(number: int, on_progress: OnProgress | None) -> OnStep | None:
    """Pass progress on a few times a second at most; always the first and the last of it, and that weights were kept:
    what is told of them is of those that lie there.

    Rows of the curve wait for the next one; the rest of them come with the trial's result.
    """
    if on_progress is None:
        return None
    due, done, waiting = 0.0, 0.0, list[Mapping[str, Any]]()
    latest: Kept = None

    def on_step(share: float, words: str, rows: Sequence[Mapping[str, Any]] = (), kept: Kept = None) -> None:
        nonlocal due, done, latest
        now, latest = time.monotonic(), kept or latest
        waiting.extend(rows)
        if now >= due or share >= 1 > done or kept is not None:
            due, done = now + PROGRESS_SECONDS, share
            on_progress(Progress(number, min(share, 1.0), words, rows=tuple(waiting), kept=latest))
            waiting.clear()

    return on_step


def failure(error: BaseException, recipe_dir: Path) -> TrialError:
    """Say of what kind a failure is: memory first, then whose code raised it."""
    hint = error.hint if isinstance(error, TunerError) else ""
    if any(is_out_of_memory(cause) for cause in _causes(error)):
        root = next(cause for cause in _causes(error) if is_out_of_memory(cause))
        text = f"out of memory: {str(root).strip().splitlines()[0] if str(root).strip() else type(root).__name__}"
        return TrialError("oom", text, OOM_HINT)
    if any(is_assertion(cause) for cause in _causes(error)):
        place = where_in_user_code(error, recipe_dir)
        return TrialError("user-code", f"{f'{place}: ' if place else ''}{SAID}", HINT)
    if isinstance(error, (UserCodeError, UsageError)):
        return TrialError("user-code", error.message, hint)
    if isinstance(error, InputError):
        return TrialError("data", error.message, hint)
    if isinstance(error, TunerError):
        return TrialError("crash", error.message, hint)
    if where := where_in_user_code(error, recipe_dir):
        text = f"{where}: {type(error).__name__}: {error}\n{user_frames(error, recipe_dir)}"
        return TrialError("user-code", text, "Fix the line above, then give the same command again.")
    kind: FailureKind = "crash"
    return TrialError(kind, "".join(traceback.format_exception(error)).rstrip(), "")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that memory, of the GPU or of the machine, is exhausted."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    words = (
        "DefaultCPUAllocator: can't allocate memory",
        "DefaultCPUAllocator: not enough memory",
        "CUDA out of memory",
        "CUDA error: out of memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
        "CUDNN_STATUS_ALLOC_FAILED",
        "std::bad_alloc",
    )
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
