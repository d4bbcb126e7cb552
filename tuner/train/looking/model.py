"""What `tuner inspect` measures: layers, activations at init, pictures, the schedule, throughput by batch size."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from tuner.core.errors import UsageError
from tuner.core.trial import TrialEnv, TrialSpec
from tuner.recipe.model import expand_path
from tuner.train.finetune import load_into, read_weights
from tuner.train.looking import pictures
from tuner.train.looking.layers import layers_of, remarks
from tuner.train.loop import batches_of, take_step
from tuner.train.setup import Setup, make_setup
from tuner.train.state import Tape, start

EXAMPLES = 64
SECONDS = 20.0  # for all batch sizes together


def inspect_model(tables: dict[str, Any], env: TrialEnv, epochs: int, out: Path | None) -> dict[str, Any]:
    """Return the layers of a recipe's model on some train examples, remarks and the paths of the pictures written.

    Raises:
        UsageError, UserCodeError, InputError: the recipe's parts are at fault.
    """
    setup = make_setup(TrialSpec(tables, {}, 0, horizon_epochs=epochs), env)
    if not isinstance(setup.data.input_shape, tuple):
        raise UsageError("tuner inspect reads models of one input tensor; this data has several", "Look at its parts.")
    model = setup.model()
    size = min(EXAMPLES, setup.data.size("train"))
    inputs, _ = next(iter(setup.data.batches("train", size, indices=torch.arange(size))))
    found: dict[str, Any] = {"layers": [layer.to_json() for layer in layers_of(model, inputs)]}
    found["parameters"] = sum(item.numel() for item in model.parameters())
    found["multiply_adds"] = sum(layer["multiply_adds"] for layer in found["layers"])
    found["remarks"] = remarks(model)
    table = tables.get("finetune") or {}
    if table.get("weights"):
        path = Path(expand_path(table["weights"], env.recipe_dir))
        found["weights"] = load_into(setup.model(), read_weights(path), path).words()
    written = (
        []
        if out is None
        else [
            pictures.filters(model, out / "first-layer.png"),
            pictures.feature_maps(model, inputs, out / "feature-maps.png"),
        ]
    )
    found["files"] = [str(path) for path in written if path is not None]
    return found


def rates(tables: dict[str, Any], env: TrialEnv, epochs: int) -> list[float]:
    """Return the rate of every update of a run of that many epochs; a plateau's is the rate itself."""
    setup = make_setup(TrialSpec(tables, {}, 0, horizon_epochs=epochs), env)
    training = start(setup)
    per_epoch = setup.updates_per_epoch
    found = []
    for step in range(epochs * per_epoch):
        found.append(float(training.optimizer.param_groups[0]["lr"]))
        ends = (step + 1) % per_epoch == 0
        if setup.schedule_every == "step" or (ends and setup.schedule_every == "epoch"):
            _step(training)
    return found


def _step(training: Any) -> None:
    from tuner.train.scheduling import watches_val

    training.optimizer._opt_called = True  # nothing is trained here, and torch would warn of that
    training.schedule.step(*([0.0] if watches_val(training.schedule) else []))


def throughput(tables: dict[str, Any], env: TrialEnv) -> list[dict[str, Any]]:
    """Return examples per second of training by batch size, doubled from 8 until memory, data or time end it."""
    found: list[dict[str, Any]] = []
    size, begun = 8, time.perf_counter()
    setup = make_setup(TrialSpec(tables, {}, 0, horizon_steps=4), env)
    while size <= setup.data.size("train") and time.perf_counter() - begun < SECONDS:
        train = {**tables["train"], "batch_size": size}
        try:
            seconds = _seconds_per_step(_with(setup, {**tables, "train": train}))
        except (RuntimeError, MemoryError) as error:
            found.append({"batch_size": size, "examples_per_second": None, "why": str(error).splitlines()[0]})
            break
        found.append({"batch_size": size, "examples_per_second": size / seconds, "why": ""})
        size *= 2
    return found


def _with(setup: Setup, tables: dict[str, Any]) -> Setup:
    from dataclasses import replace

    return replace(setup, spec=replace(setup.spec, tables=tables))


def _seconds_per_step(setup: Setup) -> float:
    training, tape, clocks = start(setup), Tape(), []
    for batches in batches_of(setup, training, 1):
        begun = time.perf_counter()
        take_step(setup, training, batches, tape)
        float(tape.losses[-1])
        clocks.append(time.perf_counter() - begun)
        if len(clocks) == 4:
            break
    return sorted(clocks[1:] or clocks)[len(clocks[1:]) // 2]
