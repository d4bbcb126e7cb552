"""What the user's `load` returned, checked and turned into stores."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from tuner.core.errors import TunerError, UsageError, UserCodeError
from tuner.core.store import sha256
from tuner.core.trial import digest
from tuner.parts.examples import OnProgress, native, numbered
from tuner.recipe import registry
from tuner.recipe.user_files import hash_data
from tuner.tasks.base import Task
from tuner.tasks.told import task_of
from tuner.train.cache import cache_folder
from tuner.train.forms import Given, as_pair, splits_of, taken
from tuner.train.labels import labels_at_hand, labels_of, read_all
from tuner.train.nested import is_one, leaves, shape_of
from tuner.train.stores import (
    ArrayStore,
    SequentialStore,
    Store,
    StreamStore,
    as_array,
    collated,
    plain,
    read_example,
    read_item,
)

PROBED = 16  # examples read twice: a mirror image with p = 1/2 goes unnoticed once in 65,536 data sets

_labels: dict[str, np.ndarray] = {}  # targets of streams that this process has read once


@dataclass(frozen=True)
class Reading:
    """How a user's Datasets are read: kept in memory or streamed, by how many loader processes, for which task."""

    base_dir: Path
    cache: bool = False
    loader_workers: int = 0
    collate: str | None = None
    task: str | None = None
    loss: Mapping[str, Any] = field(default_factory=dict)
    cache_dir: Path | None = None


@dataclass(frozen=True)
class UserSplit:
    """One split of the user's: its store, its labels, and whether two reads of one example differ."""

    store: Store
    labels: np.ndarray
    place: Callable[[int], str]
    class_names: tuple[str, ...] | None = None
    stochastic: bool = False


def silent(share: float, words: str) -> None:
    """Hear of progress, and say nothing."""


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators, and put them back: a random split in the user's `load` is the same in every trial."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def load_user(
    name: str, args: Mapping[str, Any], reading: Reading, seed: int, with_test: bool, on_progress: OnProgress
) -> tuple[dict[str, UserSplit | None], Task]:
    """Call the user's `load`; return its splits and their task. val may be None, `test` is absent if not returned.

    Test examples are not read unless `with_test`.
    """
    base_dir = reading.base_dir
    fn = registry.resolve("source", name, base_dir)
    kwargs = registry.bind(fn, {}, args, "data")
    where = f"data.source {name}"
    with seeded(seed):
        returned = _called(fn, kwargs, where, base_dir)
    given = {
        split: value for split, value in splits_of(returned, where).items() if split != "test" or value is not None
    }
    present = {split: taken(value, f"{where}: {split}") for split, value in given.items() if value is not None}
    memo = [name, dict(args), str(base_dir), hash_data(args, base_dir), _stamps()]
    kept = {split: value for split, value in present.items() if split != "test" or with_test}
    splits, task = read_splits(kept, reading, memo, on_progress)
    unread = {split: _unread(value, split) for split, value in present.items() if split not in kept}
    return {split: (splits | unread).get(split) for split in given}, task


def read_splits(
    given: Mapping[str, Given], reading: Reading, memo: list[Any] | None = None, on_progress: OnProgress = silent
) -> tuple[dict[str, UserSplit], Task]:
    """Read what was handed over, train first, which tells the task. `memo`: what makes targets the same as before."""
    taken_over = {split: _with_collate(value, reading) for split, value in given.items()}
    task = _task(taken_over["train"], reading)
    read = {
        split: _user_split(value, split, reading, task, None if memo is None else digest([*memo, split]), on_progress)
        for split, value in taken_over.items()
    }
    return read, task


def _with_collate(given: Given, reading: Reading) -> Given:
    """Return what was given with the recipe's `data.collate` in the place of its own."""
    if reading.collate is None:
        return given
    return replace(given, collate=registry.resolve("collate", reading.collate, reading.base_dir))


def _task(given: Given, reading: Reading) -> Task:
    """Tell the task from all targets of arrays, or from the first examples of a Dataset."""
    pair = as_pair(given)
    if pair is not None:
        return task_of(reading.task, as_array(pair[1]), given.where, reading.loss)
    targets = [_raw_target(given, i, reading.base_dir) for i in range(min(PROBED, len(given.dataset)))]
    same = len({np.shape(target) for target in targets}) == 1
    return task_of(reading.task, np.stack(targets) if same else np.array(targets[0])[None], given.where, reading.loss)


def _raw_target(given: Given, i: int, base_dir: Path) -> np.ndarray:
    if isinstance(given.dataset, IterableDataset):
        store = SequentialStore(given.dataset, given.where, base_dir, None, collate=given.collate, as_target=_as_given)
        return as_array(next(store.raw([i]))[1])
    if given.collate is None:
        return np.asarray(read_example(given.dataset, i, given.where, base_dir)[1])
    item = read_item(given.dataset, i, given.where, base_dir)
    return as_array(collated(given.collate, [item], given.where, base_dir)[1])[0]


def _as_given(values: Any, where: str) -> np.ndarray:
    return as_array(values)


def _called(fn: Callable[..., Any], kwargs: Mapping[str, Any], where: str, base_dir: Path) -> Any:
    try:
        return registry.call(fn, kwargs, where, base_dir)
    except TunerError:
        raise
    except Exception as error:  # of a function that lies outside the recipe's folder
        raise UserCodeError(f"{where} raised {type(error).__name__}: {error}", "Fix that function.") from error


def _unread(given: Given, split: str) -> UserSplit:
    """Stand in for the test split: its size, and nothing of its content."""
    pair = as_pair(given)
    size = len(pair[1]) if pair is not None else len(given.dataset)
    empty = torch.empty(0)
    return UserSplit(ArrayStore(empty, empty, False), np.zeros(size, dtype=np.int64), numbered(split))


def _user_split(
    given: Given, split: str, reading: Reading, task: Task, memo: str | None, on_progress: OnProgress
) -> UserSplit:
    names = _class_names(given.dataset)
    pair = as_pair(given)
    if pair is not None:
        targets = task.as_targets(as_array(pair[1]), given.where)
        return UserSplit(array_store(pair[0], targets, given.where), targets, numbered(split), names)
    kind = SequentialStore if isinstance(given.dataset, IterableDataset) else StreamStore
    store = kind(
        given.dataset,
        given.where,
        reading.base_dir,
        None,
        reading.loader_workers,
        given.collate,
        task.as_targets,
        given.order,
    )
    store = replace(store, shape=shape_of(store.first()))
    stochastic, probe = _read_twice(store)
    if reading.cache and stochastic:
        raise UsageError(
            f"data.cache: true, but two reads of one example differ ({given.where})",
            "Remove the random transform (data.augment does it per batch), or data.cache.",
        )
    key = digest([memo, len(store), task.name, probe])
    if reading.cache and given.collate is None and is_one(store.shape):
        inputs, labels = read_all(store, on_progress, keep=True)
        assert inputs is not None
        return UserSplit(array_store(inputs, labels, given.where), labels, numbered(split), names)
    targets = _labels.get(key) if memo is not None else None
    if targets is None and (targets := labels_at_hand(given, store, task)) is None:
        targets = labels_of(store, key if memo is not None else None, cache_folder(reading.cache_dir), on_progress)
    if memo is not None:
        _labels[key] = targets
    return UserSplit(store, targets, numbered(split), names, stochastic)


def array_store(inputs: Any, targets: np.ndarray, where: str) -> ArrayStore:
    if not isinstance(inputs, Tensor):
        array = np.asarray(inputs)
        if array.dtype.kind not in "biuf":
            raise UsageError(
                f"{where}: the inputs must be numbers, they are {array.dtype}",
                "Encode them as numbers; a DataFrame with text columns as pandas.get_dummies(frame).",
            )
        array = native(array)
        inputs = torch.from_numpy(array if array.flags.writeable else array.copy())
    values = plain(inputs)
    images = values.dim() == 4
    values = (values.permute(0, 2, 3, 1) if images else values).contiguous()
    return ArrayStore(values, torch.from_numpy(np.ascontiguousarray(targets)), images)


def _print_of(values: Tensor) -> str:
    """Return a hash of values that is the same in every process, as Python's own is not."""
    return hashlib.blake2b(values.contiguous().numpy().tobytes(), digest_size=8).hexdigest()


def _read_twice(store: StreamStore) -> tuple[bool, list[Any]]:
    """Read a few examples twice; return whether any read differs, and what tells this data set from another."""
    size = len(store)
    chosen = sorted({i * (size - 1) // max(1, min(PROBED, size) - 1) for i in range(min(PROBED, size))})
    if isinstance(store, SequentialStore):
        chosen = chosen[:1] if size > PROBED else chosen  # each read of a stream starts at its beginning
    stochastic = False
    seen: list[Any] = []
    for i in chosen:
        (once, target), (again, target_again) = store.example(i), store.example(i)
        pairs = zip(leaves(once), leaves(again), strict=True)
        same = all(a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)
        stochastic |= not same or not np.array_equal(target, target_again)
        prints = [_print_of(leaf) for leaf in leaves(once)]
        seen.append([np.asarray(target).tolist(), *prints])
    return stochastic, [entry[0] for entry in seen] if stochastic else seen


def _class_names(value: Any) -> tuple[str, ...] | None:
    names = getattr(value, "classes", None)
    if isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None


def _stamps() -> list[list[str]]:
    """Return the user's files that are loaded, with their content's hash."""
    return [[str(path), sha256(path)] for path in registry.user_module_files() if path.exists()]
