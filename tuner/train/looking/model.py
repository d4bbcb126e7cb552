"""What `tuner inspect` measures: layers, activations at init, pictures, the schedule, throughput by batch size."""

from __future__ import annotations

import gc
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tuner.core.errors import UsageError
from tuner.core.inventory import limit_bytes
from tuner.core.memory import Measured, MemoryModel, too_large
from tuner.core.trial import TrialEnv, TrialSpec
from tuner.recipe.model import expand_path
from tuner.train.device import inventory, peak_memory_bytes, reset_peak_memory
from tuner.train.finetune import load_into, read_weights
from tuner.train.looking import pictures
from tuner.train.looking.layers import layers_of, remarks
from tuner.train.loop import batches_of, take_step
from tuner.train.memory import needs_of
from tuner.train.setup import Setup, make_setup
from tuner.train.state import Tape, start

EXAMPLES = 64
SECONDS = 20.0  # for all batch sizes together
STEPS = 4  # of each size; the first is not counted


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
            _schedule_step(training)
    return found


def _schedule_step(training: Any) -> None:
    from tuner.train.scheduling import watches_val

    training.optimizer._opt_called = True  # nothing is trained here, and torch would warn of that
    training.schedule.step(*([0.0] if watches_val(training.schedule) else []))


def throughput(tables: dict[str, Any], env: TrialEnv) -> dict[str, Any]:
    """Measure training by batch size, doubled from 8 until memory, data or time end it; say which is the largest.

    `rows`: examples per second and peak memory (bytes) of each size, or why it was not tried. `largest`: the largest
    batch that fits into `limit_bytes`, by a line through the peaks, and at most all of train (`train`).
    """
    setup = make_setup(TrialSpec(tables, {}, 0, horizon_steps=STEPS), env)
    limit = limit_bytes(inventory(), setup.data.device.type)
    needs, train = needs_of(setup), setup.data.size("train")
    rows: list[dict[str, Any]] = []
    peaks: list[tuple[int, int]] = []
    size, begun = 8, time.perf_counter()
    while size <= train and time.perf_counter() - begun < SECONDS:
        model = MemoryModel([Measured(needs, 0, tuple(peaks))]) if len(peaks) > 1 else None
        if model is not None and (needed := model.predict(needs, size)) > limit:
            rows.append(_row(size, why=too_large({}, size, needed, limit)))
            break
        try:
            seconds, peak = _step(setup, size)
        except (RuntimeError, MemoryError) as error:
            rows.append(_row(size, why=str(error).splitlines()[0]))
            break
        rows.append(_row(size, size / seconds, peak))
        peaks.append((size, peak))
        size *= 2
    fits = MemoryModel([Measured(needs, 0, tuple(peaks))]).largest_batch(needs, limit) if len(peaks) > 1 else None
    return {"rows": rows, "largest": None if fits is None else min(fits, train), "limit_bytes": limit, "train": train}


def _row(size: int, rate: float | None = None, peak: int | None = None, why: str = "") -> dict[str, Any]:
    return {"batch_size": size, "examples_per_second": rate, "peak_memory_bytes": peak, "why": why}


def _step(setup: Setup, batch_size: int) -> tuple[float, int]:
    """Return the median seconds of a training step, without the first, and the peak memory in bytes."""
    train = {**setup.tables["train"], "batch_size": batch_size}
    setup = replace(setup, spec=replace(setup.spec, tables={**setup.tables, "train": train}))
    gc.collect()
    reset_peak_memory(setup.env.device)
    training, tape, clocks = start(setup), Tape(), []
    for batches in batches_of(setup, training, 1):
        begun = time.perf_counter()
        take_step(setup, training, batches, tape)
        float(tape.losses[-1])
        clocks.append(time.perf_counter() - begun)
        if len(clocks) == STEPS:
            break
    return sorted(clocks[1:] or clocks)[len(clocks[1:]) // 2], peak_memory_bytes(setup.env.device)
