"""Measuring what training steps take of the device's memory, to predict what no step is made with."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from tuner.core.errors import UsageError
from tuner.core.memory import KEEPING, KEEPING_ON_GPU, Measured, MemoryModel, Needs, Room, too_large
from tuner.core.signals import ends_the_command
from tuner.core.trial import apply_overrides
from tuner.recipe.space import extremes, space_of
from tuner.train.device import peak_memory_bytes, reset_peak_memory
from tuner.train.loop import batches_of, take_step
from tuner.train.search_preflight import point_of
from tuner.train.setup import Setup, resolve_all
from tuner.train.shares import sizes_of
from tuner.train.state import Tape, start

STEPS = 3  # the first makes the optimizer's state; later ones have it beside what the forward pass saves
EXAMPLES = 2
SEEN_BYTES = 200_000_000  # saved by the larger of two batches: a process's memory moves by some 25 MB by itself
MOST_EXAMPLES = 1024  # of a batch that is larger than the recipe's only to be seen
MOVES_MEMORY = ("model.", "train.batch_size", "optimizer.name")  # searched keys on which memory depends
LEAST_DIFFERENCE = 0.2  # of what is saved per example, for a second configuration to tell something


def needs_of(setup: Setup) -> Needs:
    """Build a configuration's model, and see what a forward pass of two examples in train mode saves for the way back.

    The model is built for this alone; the epochs of a trial seed all random draws for themselves.
    """
    model = setup.model().train()
    count = min(EXAMPLES, setup.data.size("train"))
    inputs, _ = next(iter(setup.data.batches("train", count, indices=torch.arange(count))))
    own = {item.untyped_storage().data_ptr() for item in (*model.parameters(), *model.buffers())}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), setup.autocast():
        outputs = model(inputs)
    weights = sum(item.nbytes for item in model.parameters())
    del outputs
    return Needs(weights, sum(saved.values()) / count)


def peak_of_training(setup: Setup, batch_size: int) -> tuple[int, float]:
    """Return the peak memory (bytes) of two updates at a batch size, and how many copies of the weights they keep."""
    gc.collect()
    reset_peak_memory(setup.env.device)
    train = {**setup.tables["train"], "batch_size": batch_size}
    there = replace(setup, spec=replace(setup.spec, tables={**setup.tables, "train": train}))
    training = start(there)
    epoch = 0
    steps = 0
    while steps < STEPS:
        epoch += 1
        for batches in batches_of(there, training, epoch):
            take_step(there, training, batches, Tape())
            steps += 1
            if steps == STEPS:
                break
    peak = peak_memory_bytes(setup.env.device)
    weights = sum(item.nbytes for item in training.model.parameters())
    return peak, (2 * weights + _state_bytes(training.optimizer)) / max(1, weights)


def _state_bytes(optimizer: torch.optim.Optimizer) -> int:
    found = (value for state in optimizer.state.values() for value in state.values())
    return sum(value.nbytes for value in found if isinstance(value, Tensor) and value.ndim > 0)


def measured(setup: Setup, needs: Needs) -> Measured:
    """Measure training a configuration at two batch sizes."""
    sizes = two_sizes(batch_of_one_device(setup), needs.saved_bytes, setup.data.size("train"))
    found = [peak_of_training(setup, size) for size in sizes]
    peaks = tuple((size, peak) for size, (peak, _) in zip(sizes, found, strict=True))
    return Measured(needs, found[-1][1], peaks)


def two_sizes(batch_size: int, saved_bytes: float, examples: int) -> list[int]:
    """Return the two batch sizes at which a configuration is measured.

    A half of the batch and an eighth, as the whole may not fit; more where that is too little to be told from what
    else comes and goes in a process, as far as there are examples.
    """
    seen = round(SEEN_BYTES / max(saved_bytes, 1.0))
    larger = min(max(8, batch_size // 2, seen), max(8, examples), max(MOST_EXAMPLES, batch_size // 2))
    return [larger // 4, larger]


def memory_model(setup: Setup, points: Sequence[Mapping[str, Any]]) -> MemoryModel:
    """Measure a recipe's configuration at two batch sizes, and another one of the model's where `points` has some.

    `points`: {dotted key: value} of other configurations of the model, of which the smallest that differs is taken.
    """
    keeping = KEEPING_ON_GPU if setup.env.device.startswith("cuda") else KEEPING
    first = measured(setup, needs_of(setup))
    others = [(needs_of(there), there) for there in (_with(setup, point) for point in points)]
    least = LEAST_DIFFERENCE * first.needs.saved_bytes
    differ = [pair for pair in others if abs(pair[0].saved_bytes - first.needs.saved_bytes) > least]
    if not differ:
        return MemoryModel((first,), keeping)
    needs, there = min(differ, key=lambda pair: pair[0].saved_bytes)
    return MemoryModel((first, measured(there, needs)), keeping)


def batch_of_one_device(setup: Setup) -> int:
    """Return how many examples of a batch one device has at most."""
    count = setup.tables["train"].get("devices_per_trial", 1)
    return max(sizes_of(setup.batch_size, count) or [setup.batch_size])


def check_fits(setup: Setup, limit_bytes: int) -> None:
    """Refuse a recipe of which what a forward pass saves, with the weights and gradients, is more than there is.

    Raises:
        UsageError: "needs ... or more".
    """
    needs = _if_it_works(lambda: needs_of(setup))
    if needs is None:
        return
    batch = batch_of_one_device(setup)
    least = round(2 * needs.weights_bytes + needs.saved_bytes * batch)
    if least > limit_bytes:
        text = too_large({}, batch, least, limit_bytes)
        raise UsageError(f"train.batch_size: {text}, or more", "Lower it; `tuner inspect --batch-size` says what fits.")


def room_of_search(setup: Setup, search: Mapping[str, Any], limit_bytes: int) -> Room | None:
    """Measure what the memory of a search's configurations is foreseen by, where it depends on what is searched."""
    if not any(key.startswith(MOVES_MEMORY) for key in search):
        return None
    space = space_of(search)
    asked = [(key, value) for key, value in extremes(space) if key.startswith("model.")]
    points = [point_of(space, key, value, setup.tables) for key, value in asked]
    of_model = [{key: value for key, value in point.items() if key.startswith("model.")} for point in points]
    model = _if_it_works(lambda: memory_model(setup, of_model))
    return None if model is None else Room(model, limit_bytes)


T = TypeVar("T")


def _if_it_works(measure: Callable[[], T]) -> T | None:
    """Return what was measured; None where the user's code does not stand it: memory is not foreseen then."""
    try:
        return measure()
    except BaseException as error:
        if ends_the_command(error):
            raise
        return None


def refusal(setup: Setup) -> str | None:
    """Say why a trial is not started, where the room that it has on its device is known, and is not enough."""
    room = setup.env.room
    if room is None:
        return None
    batch = batch_of_one_device(setup)
    needs = _if_it_works(lambda: needs_of(setup))
    if needs is None:
        return None
    needed = room.model.predict(needs, batch)
    return too_large(setup.spec.overrides, batch, needed, room.limit_bytes) if needed > room.limit_bytes else None


def _with(setup: Setup, overrides: Mapping[str, Any]) -> Setup:
    """Return the setup with other values of the recipe's keys."""
    tables = apply_overrides(setup.tables, overrides)
    functions, hooks = resolve_all(tables, setup.env.recipe_dir)
    return replace(setup, spec=replace(setup.spec, tables=tables), functions=functions, **hooks)
