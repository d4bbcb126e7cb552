"""Trying a recipe out before anything runs: every component is resolved, checked, built once and fed two examples."""

from __future__ import annotations

import contextlib
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tuner.core.errors import TunerError, UsageError, first_line, text_of, user_code
from tuner.core.inventory import limit_bytes
from tuner.core.memory import Room
from tuner.core.preflight import Preflight
from tuner.core.signals import ends_the_command
from tuner.core.stacking import SINGLE, Stacking
from tuner.core.trial import MAY_BE_ABSENT, TABLES, Progress, TrialEnv, TrialSpec, trial_tables
from tuner.recipe import registry
from tuner.recipe.model import Data as DataTable
from tuner.tasks.base import monitored_score
from tuner.train.cache import opened
from tuner.train.data import augmentation_of, check_source
from tuner.train.device import inventory, peak_memory_bytes, pick_device, reset_peak_memory, wait_for
from tuner.train.kernel_asserts import as_on_cpu
from tuner.train.loop import batches_of, measure_split, monitored, take_step
from tuner.train.memory import check_fits, room_of_search
from tuner.train.nested import scored_part, shape_of
from tuner.train.own_loss import told
from tuner.train.search_preflight import searched_names, searched_problems
from tuner.train.setup import (
    Setup,
    make_setup,
    model_arguments,
    optimizer_arguments,
    resolve_all,
    schedule_arguments,
)
from tuner.train.stacked.proof import measured
from tuner.train.state import Tape, start
from tuner.train.stores import described

MEMORY = (MemoryError, torch.OutOfMemoryError)
LONG = 10  # epochs: a warm-up that the runs have room for must have room here
PROBLEM = re.compile(rf"((?:{'|'.join((*TABLES, *MAY_BE_ABSENT))})(?:\.[\w.-]+)?): (.*)")


def preflight(
    tables: Mapping[str, Any], env: TrialEnv, on_progress: Callable[[Progress], None] | None = None
) -> Preflight:
    """Return the problems of the tables by dotted key, the kind of device, and a summary of the data and the model.

    With a `search` table among them, the values that it may take are tried as well.
    The data is decoded here, once for all trials; `on_progress` hears of that.

    Raises:
        UserCodeError, InputError, EnvironmentProblem: the user's code, the data or the machine is at fault.
    """
    with contextlib.redirect_stdout(sys.stderr):  # stdout is the report's, whatever the user's code prints
        registry.forget_user_modules()
        opened.clear()
        device = pick_device(env.device)
        there = inventory(device)
        problems: list[list[str]] = []
        hints: list[str] = []
        step = Step()
        with as_on_cpu(device):
            summary = _summary_of({**tables}, replace(env, device=device), on_progress, problems, hints, step)
    return Preflight(
        device=torch.device(device).type,
        problems=tuple((key, text) for key, text in problems),
        hints=tuple(dict.fromkeys(hints)),
        summary=summary,
        inventory=there,
        peak_memory_bytes=step.peak_memory_bytes,
        decoded=tuple(sorted(opened)),
        room=step.room,
        stacking=step.stacking,
    )


@dataclass
class Step:
    """What one training step took, and what those of a search will take; None: none was made."""

    peak_memory_bytes: int | None = None
    room: Room | None = None
    stacking: Stacking = SINGLE


def _summary_of(
    tables: dict[str, Any],
    env: TrialEnv,
    on_progress: Callable[[Progress], None] | None,
    problems: list[list[str]],
    hints: list[str],
    step: Step,
) -> dict[str, Any]:
    """Return sizes of the data and the model, as far as problems, which are added to the list, let them be known."""
    search = tables.get("search", {})
    tables = trial_tables(tables)
    torch.set_num_threads(tables["train"].get("threads_per_trial", 1))
    spec = TrialSpec(tables=tables, overrides={}, seed=0, horizon_epochs=LONG)

    problems += _signatures(tables, env, hints)
    if problems:
        problems += searched_names(tables, env, search, _signatures, problems)
    setup: Setup | None = None
    with_data = _Collect(problems, "data.source", hints)
    if not problems:
        setup = with_data(lambda: make_setup(spec, env, _decoding(on_progress)))
    if setup is None:
        return {}
    summary = _data_summary(setup)
    size = setup.data.size("train")
    if setup.batch_size > size:
        text = f"is larger than the train split, which has {size} examples (got {setup.batch_size})"
        problems.append(["train.batch_size", text])
        return summary
    summary["parameters"], evaluated = _build_and_try(setup, problems, hints)
    if evaluated and not problems:
        limit = limit_bytes(inventory(setup.env.device), torch.device(setup.env.device).type)
        _Collect(problems, "train.batch_size", hints)(lambda: check_fits(setup, limit))
    if evaluated and not problems:
        _Collect(problems, "model.name", hints)(lambda: _try_step(setup, step))
    if evaluated and not problems:
        step.room = room_of_search(setup, search, limit)
    if not problems:
        step.stacking = measured(setup)
        problems += searched_problems(setup, search, _signatures)
    return summary


def _decoding(on_progress: Callable[[Progress], None] | None) -> Callable[[float, str], None] | None:
    return None if on_progress is None else lambda share, words: on_progress(Progress(0, share, words))


class _Collect:
    """Calls a function, and turns its UsageError into problems; a line without a key belongs to `key`."""

    def __init__(self, problems: list[list[str]], key: str, hints: list[str]) -> None:
        self.problems, self.key, self.hints = problems, key, hints

    def __call__(self, fn: Callable[[], Any]) -> Any:
        try:
            return fn()
        except UsageError as error:
            self.hints += [error.hint] if error.hint else []
            for line in error.message.splitlines():
                if found := PROBLEM.fullmatch(line):
                    self.problems.append([found[1], found[2]])
                elif line.startswith("data.augment"):
                    self.problems.append(["data.augment", line.partition(" ")[2]])
                else:
                    self.problems.append([self.key, line.removeprefix(f"{self.key} ")])
            return None


def _signatures(tables: Mapping[str, Any], env: TrialEnv, hints: list[str]) -> list[list[str]]:
    """Resolve every component and check its arguments, without data: all problems at once."""
    problems: list[list[str]] = []
    data = DataTable.model_validate(tables["data"])
    _Collect(problems, "data.source", hints)(partial(check_source, data, env))
    for i, item in enumerate(data.augment):
        _Collect(problems, "data.augment", hints)(partial(augmentation_of, item, i, env.recipe_dir))
    _Collect(problems, "model.name", hints)(lambda: resolve_all(tables, env.recipe_dir))
    checks: dict[str, Callable[[Any], Any]] = {
        "model": lambda fn: model_arguments(fn, tables["model"], (1,), 2),
        "optimizer": lambda fn: optimizer_arguments(fn, tables["optimizer"], None),
        "schedule": lambda fn: schedule_arguments(fn, tables["schedule"], None, 1, 1),
    }
    for kind, check in checks.items():
        try:
            fn = registry.resolve(kind, tables[kind]["name"], env.recipe_dir)
        except UsageError:
            continue  # already among the problems
        _Collect(problems, f"{kind}.name", hints)(partial(check, fn))
    return problems


def _data_summary(setup: Setup) -> dict[str, Any]:
    data = setup.data
    return {
        "task": data.task.name,
        "score": monitored_score(data.task, setup.tables["train"].get("monitor", "val_accuracy")),
        "num_classes": data.num_classes,
        "class_names": list(data.class_names or []),
        "input_shape": list(data.input_shape) if data.is_one else data.input_shape,
        **{split: data.size(split) for split in ("train", "val", "test")},
    }


def _build_and_try(setup: Setup, problems: list[list[str]], hints: list[str]) -> tuple[int | None, bool]:
    """Build model, loss, optimizer and schedule once, and evaluate two examples.

    Returns the number of parameters, and whether it came to the evaluation.
    """
    collect = partial(_Collect, problems, hints=hints)
    model = collect("model.name")(setup.model)
    loss = collect("loss.name")(setup.loss)
    if model is None or loss is None:
        return None, False
    parameters = sum(item.numel() for item in model.parameters())
    optimizer = collect("optimizer.name")(lambda: setup.optimizer(model))
    if optimizer is not None:
        steps = setup.data.steps_per_epoch(setup.batch_size)
        collect("schedule.name")(lambda: setup.schedule(optimizer, max(steps, 1) * 10, max(steps, 1)))
    batches = list(setup.data.batches("train", 2, indices=torch.arange(min(2, setup.data.size("train")))))
    outputs = collect("model.name")(lambda: _try_outputs(setup, model, batches[0]))
    if outputs is None or not _labels_fit(setup) or _too_narrow(setup, outputs, batches[0][1]):
        return parameters, False  # labels out of range, or of the outputs', are check-init's finding, which names them
    values = collect("loss.name")(lambda: _try_evaluation(setup, model, loss, batches))
    if values is not None:
        collect("train.monitor")(lambda: monitored(setup, values))
        collect("loss.name")(lambda: _try_gradient(setup, model, loss, batches[0]))
    return parameters, True


def is_passed_on(error: BaseException) -> bool:
    """Return whether an exception says by itself what is wrong: ours, memory that is exhausted, or a signal."""
    return isinstance(error, (TunerError, *MEMORY)) or ends_the_command(error)


def _labels_fit(setup: Setup) -> bool:
    if setup.data.task.noun not in ("class", "identity") or setup.data.targets("train").ndim > 1:
        return True
    labels = torch.cat([setup.data.targets(split) for split in ("train", "val")])
    return int(labels.min()) >= 0 and int(labels.max()) < setup.data.num_classes


def _try_gradient(
    setup: Setup,
    model: torch.nn.Module,
    loss: Callable[[Any, Tensor], Tensor],
    batch: tuple[Tensor, Tensor],
) -> None:
    """Check that the loss leads back to a weight; a step of the user's own may take another way."""
    if setup.train_step is not None or not any(item.requires_grad for item in model.parameters()):
        return
    model.eval()
    with told(batch[1]):
        value = loss(model(batch[0]), batch[1])
    if not value.requires_grad:
        raise UsageError(
            "loss.name: the loss has no gradient: something between the weights and the loss is cut off",
            "Look for .detach(), .item(), .argmax(), torch.no_grad() or numpy in the model and the loss.",
        )


def _try_outputs(setup: Setup, model: torch.nn.Module, batch: tuple[Tensor, Tensor]) -> Any:
    """Check that a forward pass works."""
    inputs, _ = batch
    model.eval()
    try:
        with torch.no_grad(), user_code("model", setup.env.recipe_dir):
            return model(inputs)
    except BaseException as error:
        if is_passed_on(error):
            raise
        text = f"model.name: a batch of shape {shape_of(inputs)} does not pass through the model: {first_line(error)}"
        raise UsageError(text) from error


def _too_narrow(setup: Setup, outputs: Any, targets: Tensor) -> bool:
    part = scored_part(outputs)
    if setup.data.task.noun != "class" or not isinstance(part, Tensor) or part.ndim != 2 or targets.ndim != 1:
        return False
    return len(part) == len(targets) and 1 < part.shape[1] < setup.data.num_classes


def _try_evaluation(
    setup: Setup, model: torch.nn.Module, loss: Callable[[Any, Tensor], Tensor], batches: Any
) -> dict[str, float]:
    try:
        return measure_split(setup, model, "train", loss, batches)
    except BaseException as error:
        if is_passed_on(error):
            raise
        raise UsageError(
            f"loss.name: the loss fails on the model's outputs: {first_line(error)}",
            f"{_told_task(setup)}A loss is called with (outputs, targets) and the arguments in [loss]; where the "
            "model's outputs are not one row of class scores per example, write your own: file.py:name.",
        ) from error


def _told_task(setup: Setup) -> str:
    """Return what the targets were taken for, where the recipe does not say it and it is not the usual."""
    task = setup.data.task.name
    if setup.tables["data"].get("task") or task == "classification":
        return ""
    return f"By its targets the task is {task} (unless data.task says otherwise), which needs a loss of its own. "


def _try_step(setup: Setup, step: Step) -> None:
    """Take one training step on one batch, as the trials will: what it raises, every one of them would raise."""
    training = start(setup)
    if not any(item.requires_grad for item in training.model.parameters()):
        return  # frozen as a whole: a finding of check-init, which names it
    batches = next(batches_of(setup, training, 1))
    reset_peak_memory(setup.env.device)
    try:
        with user_code("a training step", setup.env.recipe_dir):
            take_step(setup, training, batches, Tape())
    except BaseException as error:
        if is_passed_on(error):
            raise
        key = _place_of(error)
        outputs = "" if key != "loss.name" else _shown_outputs(training.model, batches[0][0])
        raise UsageError(f"{key}: one training step raises {text_of(error)}", outputs) from error
    wait_for(setup.env.device)
    step.peak_memory_bytes = peak_memory_bytes(setup.env.device)


def _place_of(error: BaseException) -> str:
    """Return the key of the component that raised in a training step: the one that was called last."""
    places = {
        "loss": "loss.name",
        "default_step": "model.name",
        "closure": "model.name",
        "step_schedule": "schedule.name",
    }
    found = "model.name"
    for frame in traceback.extract_tb(error.__traceback__):
        if _is_ours(frame):
            found = places.get(frame.name, found)
        elif Path(frame.filename).parts[-3:-1] == ("torch", "optim") and found != "schedule.name":
            found = "optimizer.name"
    return found


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return Path(frame.filename).parent == Path(__file__).parent


def _shown_outputs(model: torch.nn.Module, inputs: Any) -> str:
    """Return what to do where the model gives something else in train mode than in eval: auxiliary outputs, mostly."""
    with torch.no_grad():
        outputs = model(inputs)
    if isinstance(outputs, Tensor):
        return ""
    return (
        f"In train mode the model returns {described(outputs)}: write a loss that takes it (file.py:name), or leave "
        "the auxiliary outputs out (aux_logits = false in torchvision)."
    )
