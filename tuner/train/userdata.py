"""What the user's `load` returned, checked and turned into stores."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from tuner.core.errors import TunerError, UsageError, UserCodeError
from tuner.core.trial import digest
from tuner.parts.examples import OnProgress, native, numbered
from tuner.recipe import registry
from tuner.train.stores import ArrayStore, Store, StreamStore, described, labels_of, plain, read_example

PROBED = 16  # examples read twice: a mirror image with p = 1/2 goes unnoticed once in 65,536 data sets
RETURNS = "It must return (train, val) or (train, val, test): Datasets of (input, target), or pairs of arrays."

_labels: dict[str, np.ndarray] = {}  # targets of streams that this process has read once


@dataclass(frozen=True)
class Reading:
    """How a user's Datasets are read: kept in memory or streamed, and by how many loader processes."""

    base_dir: Path
    cache: bool = False
    loader_workers: int = 0


@dataclass(frozen=True)
class UserSplit:
    """One split of the user's: its store, its labels, and whether two reads of one example differ."""

    store: Store
    labels: np.ndarray
    place: Callable[[int], str]
    class_names: tuple[str, ...] | None = None
    stochastic: bool = False


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
) -> dict[str, UserSplit | None]:
    """Call the user's `load` and return its splits; val may be None, `test` is absent if not returned.

    Test examples are not read unless `with_test`.
    """
    base_dir = reading.base_dir
    fn = registry.resolve("source", name, base_dir)
    kwargs = registry.bind(fn, {}, args, "data")
    where = f"data.source {name}"
    with seeded(seed):
        returned = _called(fn, kwargs, where, base_dir)
    if not isinstance(returned, (tuple, list)) or len(returned) not in (2, 3):
        raise UsageError(f"{where} returned {described(returned)}", RETURNS)
    if all(isinstance(item, (Tensor, np.ndarray)) for item in returned):
        raise UsageError(
            f"{where} returned one pair of arrays, not splits", f"{RETURNS} (inputs, targets), None will do."
        )
    if returned[0] is None:
        raise UsageError(f"{where} returned None for train", RETURNS)
    splits: dict[str, UserSplit | None] = {}
    for split, value in zip(("train", "val", "test"), returned, strict=False):
        if value is None:
            splits[split] = None
        elif split != "test" or with_test:
            memo = digest([name, dict(args), str(base_dir), _stamps(), split])
            splits[split] = _user_split(value, f"{where}: {split}", split, reading, memo, on_progress)
        else:
            splits[split] = _unread(value, f"{where}: {split}", split)
    if splits.get("test", True) is None:
        del splits["test"]
    return splits


def _called(fn: Callable[..., Any], kwargs: Mapping[str, Any], where: str, base_dir: Path) -> Any:
    try:
        return registry.call(fn, kwargs, where, base_dir)
    except TunerError:
        raise
    except Exception as error:  # of a function that lies outside the recipe's folder
        raise UserCodeError(f"{where} raised {type(error).__name__}: {error}", "Mend that function.") from error


def _unread(value: Any, where: str, split: str) -> UserSplit:
    """Stand in for the test split: its size, and nothing of its content."""
    pair = _as_pair(value, where)
    size = len(pair[1]) if pair is not None else len(_checked(value, where))
    empty = torch.empty(0)
    return UserSplit(ArrayStore(empty, empty, False), np.zeros(size, dtype=np.int64), numbered(split))


def _user_split(value: Any, where: str, split: str, reading: Reading, memo: str, on_progress: OnProgress) -> UserSplit:
    names = _class_names(value)
    pair = _as_pair(value, where)
    if pair is not None:
        return UserSplit(_array_store(*pair, where), labels_of(pair[1], where), numbered(split), names)
    dataset = _checked(value, where)
    first, _ = read_example(dataset, 0, where, reading.base_dir)
    store = StreamStore(dataset, where, reading.base_dir, tuple(first.shape), reading.loader_workers)
    stochastic, probe = _read_twice(store)
    if reading.cache and stochastic:
        raise UsageError(
            f"data.cache: true, but two reads of one example differ ({where})",
            "Remove the random transform (data.augment does it per batch), or data.cache.",
        )
    key = digest([memo, len(dataset), probe])
    if reading.cache:
        inputs, labels = _read_all(store, on_progress, keep=True)
        assert inputs is not None
        return UserSplit(_array_store(inputs, labels, where), labels, numbered(split), names)
    if key not in _labels:
        _labels[key] = _read_all(store, on_progress, keep=False)[1]
    return UserSplit(store, _labels[key], numbered(split), names, stochastic)


def _as_pair(value: Any, where: str) -> tuple[Any, Any] | None:
    """Return (inputs, targets) of a pair of arrays, a TensorDataset or a Subset of one; None for anything else."""
    if type(value) is Subset:
        pair = _as_pair(value.dataset, where) if isinstance(value.dataset, (Subset, TensorDataset)) else None
        return None if pair is None else (pair[0][list(value.indices)], pair[1][list(value.indices)])
    if type(value) is TensorDataset:
        value = value.tensors
        if len(value) != 2:
            raise UsageError(f"{where} is a TensorDataset of {len(value)} tensors, not of inputs and targets", RETURNS)
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(_is_array(item) for item in value):
        return None
    inputs, targets = value
    if len(inputs) != len(targets):
        raise UsageError(f"{where}: {len(inputs)} inputs but {len(targets)} targets", "Each input needs one target.")
    if not len(inputs):
        raise UsageError(f"{where} is empty", "Return at least two examples per class.")
    return inputs, targets


def _is_array(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray)) or type(value).__module__.split(".")[0] == "pandas"


def _array_store(inputs: Any, targets: Any, where: str) -> ArrayStore:
    if not isinstance(inputs, Tensor):
        array = np.asarray(inputs)
        if array.dtype.kind not in "biuf":
            raise UsageError(f"{where}: the inputs must be numbers, they are {array.dtype}", "Encode them as numbers.")
        array = native(array)
        inputs = torch.from_numpy(array if array.flags.writeable else array.copy())
    values = plain(inputs)
    images = values.dim() == 4
    values = (values.permute(0, 2, 3, 1) if images else values).contiguous()
    return ArrayStore(values, torch.from_numpy(labels_of(targets, where)), images)


def _checked(value: Any, where: str) -> Any:
    """Return a map-style Dataset with at least one example."""
    if isinstance(value, DataLoader):
        raise UsageError(f"{where} is a DataLoader", "Return its dataset; tuner makes the batches.")
    if isinstance(value, IterableDataset):
        raise UsageError(
            f"{where} is an IterableDataset, which has no order to fix", "Give it __len__ and __getitem__."
        )
    if isinstance(value, (Tensor, np.ndarray, str, dict)) or not (
        hasattr(value, "__getitem__") and hasattr(value, "__len__")
    ):
        raise UsageError(f"{where} is {described(value)}, not a Dataset with __len__ and __getitem__", RETURNS)
    if not len(value):
        raise UsageError(f"{where} is empty", "Return at least two examples per class.")
    return value


def _read_twice(store: StreamStore) -> tuple[bool, list[Any]]:
    """Read a few examples twice; return whether any read differs, and what tells this data set from another."""
    size = len(store)
    chosen = sorted({i * (size - 1) // max(1, min(PROBED, size) - 1) for i in range(min(PROBED, size))})
    stochastic = False
    seen: list[Any] = []
    for i in chosen:
        (once, label), (again, label_again) = store.example(i), store.example(i)
        stochastic |= label != label_again or not torch.equal(once.nan_to_num(), again.nan_to_num())
        seen.append([label, hash(once.contiguous().numpy().tobytes())])
    return stochastic, [label for label, _ in seen] if stochastic else seen


def _read_all(store: StreamStore, on_progress: OnProgress, keep: bool) -> tuple[Tensor | None, np.ndarray]:
    inputs = []
    labels = np.empty(len(store), dtype=np.int64)
    for i in range(len(store)):
        example, labels[i] = store.example(i)
        if keep:
            inputs.append(example)
        if i % 256 == 0:
            on_progress(i / len(store), f"reading the labels of {len(store)} examples")
    return torch.stack(inputs) if keep else None, labels


def _class_names(value: Any) -> tuple[str, ...] | None:
    names = getattr(value, "classes", None)
    if isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None


def _stamps() -> list[list[Any]]:
    found = [(str(path), path.stat()) for path in registry.user_module_files() if path.exists()]
    return [[path, stat.st_size, stat.st_mtime_ns] for path, stat in found]
