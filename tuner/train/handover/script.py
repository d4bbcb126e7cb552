"""Write the winner's training as one script of plain PyTorch that repeats its curve without tuner."""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tuner.core.errors import EnvironmentProblem, UsageError
from tuner.core.store import write_bytes
from tuner.core.streams import derive_seed
from tuner.parts.heads import fit_head
from tuner.recipe.model import Train
from tuner.recipe.registry import resolve
from tuner.train.device import seed_everything
from tuner.train.evaluate import as_float
from tuner.train.finish import split_table
from tuner.train.handover import template
from tuner.train.handover.bundle import Bundle
from tuner.train.handover.script_data import load_text, normalise_text, splits_of
from tuner.train.loop import evaluation_batch
from tuner.train.objective import balanced, loss_arguments, names_both
from tuner.train.setup import (
    LIBRARIES,
    Setup,
    can_fuse,
    model_arguments,
    optimizer_arguments,
    schedule_arguments,
)
from tuner.train.step import needs_closure

WRITTEN = ("batch_size", "precision", "threads_per_trial", "monitor", "monitor_mode", "step", "evaluate", "clip_norm")
RESERVED = frozenset(
    re.findall(r"^(?:def|class) (\w+)", "\n".join(vars(template)[n] for n in ("NORMALISE", "STEP")), re.M)
)
INSTEAD = "Use --weights or --onnx, or train the recipe without it."


@dataclass(frozen=True)
class Facts:
    """What the script says of the run: its name, the trial, its best epoch and score."""

    run: str
    trial: str
    best_epoch: int | None
    score: float | None


@dataclass
class Names:
    """How the script calls the recipe's components, and what it needs for that."""

    setup: Setup
    bundle: Bundle = field(default_factory=lambda: Bundle(reserved=RESERVED))
    imports: dict[str, None] = field(default_factory=dict)

    def of(self, fn: Callable[..., Any], name: str) -> str:
        """Return the expression that names a component of the recipe."""
        if ":" in name:
            module = name.rpartition(":")[0].removesuffix(".py").replace("/", ".")
            self.imports[f"import {module}"] = None
            return f"{module}.{name.rpartition(':')[2]}"
        if fn.__module__.startswith("tuner."):
            return self.bundle.add(fn)
        if fn.__module__.startswith("torch.optim") and "." not in name:
            return f"torch.optim.{fn.__name__}"
        if "." not in name:
            raise UsageError(f"--script: {name!r} of {fn.__module__} has no import path to write", INSTEAD)
        module = name
        while "." in module and module not in sys.modules:
            module = module.rpartition(".")[0]
        self.imports[f"import {module}"] = None
        return name


def write_script(setup: Setup, facts: Facts, path: Path, user_dir: Path) -> list[Path]:
    """Write the script, its file of splits and the user's own files beside it; return the paths.

    The script is run up to its first loss before it counts: weights, batch and loss must be the trial's own.

    Raises:
        UsageError: the recipe uses what scripts do not have.
        EnvironmentProblem: the first weights, batch or loss are other than the trial's.
    """
    refuse(setup)
    data_file = path.with_name(f"{path.stem}_splits.npz")
    arrays = splits_of(setup.data)
    text = script_text(setup, facts, path, data_file, arrays)
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    write_bytes(data_file, content.getvalue())
    write_bytes(path, text.encode())
    copied = [copy_of(name, user_dir, path.parent) for name in setup.spec.user_files]
    _check(setup, path)
    return [path, data_file, *copied]


def copy_of(name: str, user_dir: Path, folder: Path) -> Path:
    """Copy one of the user's files, as run, beside the script."""
    target = folder / name
    if target.resolve() != (user_dir / name).resolve():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(user_dir / name, target)
    return target


def refuse(setup: Setup) -> None:
    """Raise a UsageError that names all that a script does not have."""
    train, tables = setup.tables["train"], setup.tables
    known = {name: item.get_default(call_default_factory=True) for name, item in Train.model_fields.items()}
    parts = [f"train.{key}" for key, value in train.items() if key not in WRITTEN and value != known.get(key)]
    parts += ["optimizer.groups"] if tables["optimizer"].get("groups") else []
    parts += [f"[{name}]" for name in tables if name not in ("data", "model", "loss", "optimizer", "schedule", "train")]
    parts += ["sums of losses"] if "terms" in tables["loss"] else []
    parts += [f"precision {setup.precision}"] if setup.precision == "fp16" else []
    rest, changes = split_table(setup.functions["model"], tables["model"], setup.env.recipe_dir)
    parts += [f"model.{key}" for key in changes]
    parts += [] if isinstance(rest.get("activation", ""), str) else ["model.activation with arguments"]
    parts += ["model.init with arguments"] if not isinstance(tables["model"].get("init"), (str, type(None))) else []
    parts += [f"{name} outside the recipe's folder" for name in setup.spec.user_files if name.startswith("..")]
    if setup.data.targets("train").ndim != 1 or setup.data.targets("train").is_floating_point():
        parts.append("targets that are not one class per example")
    if needs_closure(setup.optimizer(setup.model())):
        parts.append("an optimizer that computes the loss itself")
    if parts:
        raise UsageError(f"--script: scripts do not have {', '.join(parts)} yet", INSTEAD)


def script_text(setup: Setup, facts: Facts, path: Path, data_file: Path, arrays: dict[str, np.ndarray]) -> str:
    """Return the script; `arrays` becomes what its file of splits holds."""
    names, data, train = Names(setup), setup.data, setup.tables["train"]
    load = load_text(setup, names, arrays)
    body = template.NORMALISE.format(
        load=load,
        taken="taken.permute(0, 3, 1, 2)" if data.is_image else "taken",
        normalise=normalise_text(arrays, len(data.input_shape)),
        augment=_augment(setup, names),
        autocast="contextlib.nullcontext()"
        if setup.precision == "fp32"
        else f'torch.autocast("cpu", dtype={torch.bfloat16})',
        loss=_loss(setup, names),
        **_model(setup, names),
        step=_hook(setup.train_step, train.get("step"), names, template.OWN_STEP, template.STEP),
        evaluate=_hook(setup.evaluate_hook, train.get("evaluate"), names, template.OWN_EVALUATE, template.EVALUATE),
        threads=train.get("threads_per_trial", 1),
        optimizer=_optimizer(setup, names),
        **_schedule(setup, names),
        splits=("train_eval", "val") if setup.spec.train_subset else ("val",),
        source_of='"val" if split == "val" else "train"'
        if data.part("val").store is not data.part("train").store
        else '"train"',
        sign="-" if train.get("monitor_mode", "max") == "min" else "",
        monitor_key=train.get("monitor", "val_accuracy").removeprefix("val_"),
        stem=path.stem,
    )
    parts = names.bundle.text
    head = template.HEAD.format(
        run=facts.run,
        file=path.name,
        stem=path.stem,
        trial=facts.trial,
        epochs=setup.spec.horizon_epochs,
        seed=setup.spec.seed,
        monitor=train.get("monitor", "val_accuracy").replace("_", " "),
        score="-" if facts.score is None else f"{facts.score:.6g}",
        best_epoch=facts.best_epoch,
        data_file=data_file.name,
        data_words=", and the examples themselves" if "train_inputs" in arrays else "",
        versions=f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}",
        imports=import_text([*template.IMPORTS, *names.bundle.imports, *names.imports]),
        batch_size=setup.batch_size,
        eval_batch_size=evaluation_batch(setup),
        clip_norm=train.get("clip_norm"),
    )
    banner = f"\n\n# -- the parts of the recipe {'-' * 87}\n\n\n"
    return head + (banner + parts + "\n" if parts else "") + body


def import_text(lines: Sequence[str]) -> str:
    """Return import lines in order, those of one module joined, Python's own first."""
    plain = {line for line in lines if line.startswith("import ")}
    chosen: dict[str, set[str]] = {}
    for line in set(lines) - plain:
        module, _, name = line.removeprefix("from ").partition(" import ")
        chosen.setdefault(module, set()).add(name)
    whole = [
        *sorted(plain),
        *(f"from {module} import {', '.join(sorted(found))}" for module, found in sorted(chosen.items())),
    ]
    own = [line for line in whole if line.split()[1].split(".")[0] in sys.stdlib_module_names]
    return "\n".join([*own, "", *(line for line in whole if line not in own)])


def literal(value: Any) -> str:
    """Return a value of the recipe as Python."""
    if isinstance(value, torch.Tensor):
        return f"torch.tensor({value.tolist()!r})"
    text = repr(value)
    if isinstance(value, (bool, int, float, str, list, tuple, dict, type(None))):
        return text
    raise UsageError(f"--script: {text} cannot be written into a script", INSTEAD)


def call_text(function: str, kwargs: Mapping[str, Any], positional: Sequence[str] = ()) -> str:
    """Return a call; a value that is an `Expression` stands as it is."""
    given = [f"{key}={value if isinstance(value, Expression) else literal(value)}" for key, value in kwargs.items()]
    return f"{function}({', '.join([*positional, *given])})"


class Expression(str):
    """Python that is written as it is, not as a text."""


def _augment(setup: Setup, names: Names) -> str:
    lines = []
    for item, step in zip(setup.tables["data"].get("augment", ()), setup.data.augmentations, strict=True):
        function = names.of(step.fn, item if isinstance(item, str) else item["name"])
        offered = {name: Expression(name) for name in ("inputs", "targets", "generator")}
        offered["num_classes"] = Expression(str(setup.data.num_classes))
        named = {name: offered[name] for name in step.asks}
        leading = () if named else ("inputs", "targets", "generator")
        lines.append(f"    inputs, targets = {call_text(function, {**named, **step.kwargs}, leading)}\n")
    return "".join(lines)


def _loss(setup: Setup, names: Names) -> str:
    table = setup.tables["loss"]
    fn = resolve("loss", table["name"], setup.env.recipe_dir)
    kwargs, function = loss_arguments(fn, table), names.of(fn, table["name"])
    if kwargs.get("weight") == "balanced":
        kwargs["weight"] = balanced(setup.class_counts())
    if isinstance(fn, type):
        kwargs = {key: torch.tensor(item) if isinstance(item, list) else item for key, item in kwargs.items()}
        return f"loss = {call_text(function, kwargs)}\n"
    named = {"outputs": Expression("outputs"), "targets": Expression("targets")} if names_both(fn) else {}
    text = call_text(function, {**named, **kwargs}, () if named else ("outputs", "targets"))
    return f'def loss(outputs, targets):\n    """Return the objective of a batch."""\n    return {text}\n'


def _model(setup: Setup, names: Names) -> dict[str, str]:
    fn, table, data = setup.functions["model"], setup.tables["model"], setup.data
    kwargs = model_arguments(fn, table, data.input_shape, data.num_classes)
    after = ""
    if (fn.__module__ or "").split(".")[0] in LIBRARIES and "num_classes" not in kwargs:
        after += f"    {names.bundle.add(fit_head)}(model, {data.num_classes})\n"
    if "init" in setup.functions:
        after += f"    {names.of(setup.functions['init'], table['init'])}(model)\n"
    layout = "torch.channels_last" if len(data.input_shape) == 3 else "torch.preserve_format"
    return {"model": call_text(names.of(fn, table["name"]), kwargs), "after_model": after, "layout": layout}


def _optimizer(setup: Setup, names: Names) -> str:
    fn, table, model = setup.functions["optimizer"], setup.tables["optimizer"], setup.model()
    kwargs = optimizer_arguments(fn, table, model, list(model.parameters()))
    if can_fuse(fn, kwargs, model):
        kwargs["fused"] = True
    written = {"params": Expression("model.parameters()"), "model": Expression("model")}
    return call_text(names.of(fn, table["name"]), {key: written.get(key, value) for key, value in kwargs.items()})


def _schedule(setup: Setup, names: Names) -> dict[str, str]:
    fn, table = setup.functions["schedule"], setup.tables["schedule"]
    by_epoch = setup.schedule_every == "epoch"
    kwargs = schedule_arguments(fn, table, None, 1, 1)
    written = {"optimizer": "optimizer", "total_steps": "total_steps", "steps_per_epoch": "steps"}
    if by_epoch:
        written |= {"total_steps": "EPOCHS", "steps_per_epoch": "1"}
    given = {key: Expression(written[key]) if key in written else value for key, value in kwargs.items()}
    plateau = inspect.isclass(fn) and issubclass(fn, torch.optim.lr_scheduler.ReduceLROnPlateau)
    return {
        "schedule": call_text(names.of(fn, table["name"]), given),
        "step_schedule": "" if by_epoch else template.STEP_SCHEDULE,
        "epoch_schedule": template.EPOCH_SCHEDULE.format(told='values["loss"]' if plateau else "") if by_epoch else "",
    }


def _hook(hook: Any, name: str | None, names: Names, own: str, ours: str) -> str:
    if hook is None or name is None:
        return ours
    return own.format(function=names.of(hook.fn, name), asks=list(hook.asks))


CHECK = """
import hashlib, json, runpy, sys
sys.path.insert(0, sys.argv[2])
script = runpy.run_path(sys.argv[1])
source = script["load"]()["train"]
model = script["build_model"]()
inputs, targets = next(iter(script["train_batches"](source, 1)))
def digest(tensors):
    found = hashlib.sha256()
    for item in tensors:
        found.update(item.detach().contiguous().numpy().tobytes())
    return found.hexdigest()
script["seed_everything"](0)
weights = digest(model.state_dict().values())
with script["autocast"]():
    outputs = script["as_float"](model(inputs))
print(json.dumps([weights, digest([inputs, targets]), float(script["loss"](outputs, targets).detach())]))
"""


def _check(setup: Setup, path: Path) -> None:
    """Run the script up to its first batch, in a process of its own, and compare."""
    command = [sys.executable, "-c", CHECK, str(path), str(path.parent)]
    done = subprocess.run(command, capture_output=True, text=True)
    model = setup.model()
    inputs, targets = next(iter(setup.data.epoch(setup.spec.seed, 1, setup.batch_size)))
    expected: list[Any] = [_digest(list(model.state_dict().values())), _digest([inputs, targets])]
    seed_everything(0)
    with setup.autocast():
        outputs = as_float(model(inputs))
    expected.append(float(setup.loss()(outputs, targets).detach()))
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise EnvironmentProblem(f"--script: {path} does not run: {last}", f"python {path} shows where; {INSTEAD}")
    for what, found, wanted in zip(("weights", "batch", "loss"), json.loads(lines[-1]), expected, strict=True):
        if found != wanted:
            raise EnvironmentProblem(f"--script: the first {what} of {path} is not the trial's own", INSTEAD)


def _digest(tensors: Sequence[torch.Tensor]) -> str:
    found = hashlib.sha256()
    for item in tensors:
        found.update(item.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


def user_load_seed(setup: Setup) -> int:
    """Return the seed under which the user's own `load` is called."""
    return derive_seed(setup.tables["data"].get("split_seed", 0), "load")
