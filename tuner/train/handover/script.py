"""Write the winner's training as one script of plain PyTorch that repeats its curve without tuner."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tuner.core.errors import EnvironmentProblem, UsageError
from tuner.core.store import sha256, write_bytes
from tuner.parts.optimizers._inner import Around
from tuner.train.device import seed_everything
from tuner.train.evaluate import as_float
from tuner.train.handover import template
from tuner.train.handover.names import INSTEAD
from tuner.train.handover.script_data import splits_of
from tuner.train.handover.script_text import Facts, script_text
from tuner.train.own_loss import is_asked
from tuner.train.setup import Setup
from tuner.train.stores import StreamStore

WITHOUT = ("teacher", "after")  # tables of the recipe that scripts do not have


def write_script(setup: Setup, facts: Facts, path: Path, user_dir: Path) -> list[Path]:
    """Write the script, its file of splits and the user's own files beside it; return the paths.

    The script is run up to its first loss before it counts: weights, batch and loss must be the trial's own.

    Raises:
        UsageError: the recipe uses what scripts do not have; a file is in the way that no export wrote.
        EnvironmentProblem: the first weights, batch or loss are other than the trial's.
    """
    refuse(setup)
    _keep(path, setup.spec.user_files)
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


def _keep(path: Path, user_files: Mapping[str, str]) -> None:
    """Refuse to write over files of the user's: a script of their own, or another file than the run was made with.

    Raises:
        UsageError: which one is in the way.
    """
    where = "Give it a name and a folder of its own: --script winner/train.py."
    if path.is_file() and not path.read_text(encoding="utf-8", errors="replace").startswith(template.BEGINS):
        raise UsageError(f"--script: {path} is there, and is no script that tuner wrote", where)
    for name, known in user_files.items():
        target = path.parent / name
        if target == path or (target.is_file() and sha256(target) != known):
            raise UsageError(f"--script: the recipe's {name} is copied beside it, and {target} is another file", where)


def copy_of(name: str, user_dir: Path, folder: Path) -> Path:
    """Copy one of the user's files, as run, beside the script."""
    target = folder / name
    if target.resolve() != (user_dir / name).resolve():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(user_dir / name, target)
    return target


def refuse(setup: Setup) -> None:
    """Raise a UsageError that names all that a script does not have."""
    data, names = setup.data, setup.spec.user_files
    store = data.part("train").store
    name = setup.tables["optimizer"]["name"]
    found = {
        **{f"[{name}]": setup.tables.get(name) is not None for name in WITHOUT},
        "train.snapshots": setup.tables["train"].get("snapshots") is not None,
        "data.resize": setup.tables["data"].get("resize") is not None and setup.tables["data"]["source"] != "npz",
        'data.sampler = "weighted"': data.prepared.weights is not None,
        "model.output": setup.tables["model"].get("output") is not None,
        'loss.name = "model"': is_asked(setup.tables["loss"]),
        f"optimizer.name = {name!r}": isinstance(setup.optimizer(setup.model()), Around),  # it looks its base up
        "precision fp16": setup.precision == "fp16",
        "inputs of several tensors or of several lengths": not data.is_one,
        "a Dataset that augments by itself": data.stochastic,
        "a stream or a sampler of a DataLoader's own": data.part("train").in_own_order
        or (isinstance(store, StreamStore) and store.order is not None),
        **{f"{name} outside the recipe's folder": name.startswith("..") for name in names},
    }
    parts = [name for name, is_there in found.items() if is_there]
    if parts:
        raise UsageError(f"--script: scripts do not have {', '.join(parts)} yet", INSTEAD)


CHECK = """
import hashlib, json, runpy, sys
sys.modules["tuner"] = None
sys.path.insert(0, sys.argv[2])
script = runpy.run_path(sys.argv[1])
source = script["load"]()["train"]
model = script["build_model"](source)
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
