"""The forms in which people hand over their data, and the line that makes each of the others work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset, default_collate
from torch.utils.data import sampler as samplers

from tuner.core.errors import UsageError
from tuner.train.stores import described

RETURNS = "It must return (train, val) or (train, val, test): Datasets of (input, target), or pairs of arrays."
SPLITS = {"train": "train", "val": "val", "validation": "val", "valid": "val", "test": "test"}
PLAIN_SAMPLERS = (samplers.RandomSampler, samplers.SequentialSampler)


@dataclass(frozen=True)
class Given:
    """One split as it was handed over, and what a DataLoader around it says of how it is read.

    `order`: the positions of one epoch, where a sampler of the user's gives them.
    """

    dataset: Any
    where: str
    collate: Callable[[list[Any]], Any] | None = None
    order: Callable[[], Sequence[int]] | None = None


def splits_of(returned: Any, where: str) -> dict[str, Any]:
    """Return what `load` gave, by split; val may be None, and test is absent where there is none.

    Raises:
        UsageError: each form that is something else, with the line that makes it work.
    """
    if isinstance(returned, Mapping) and set(returned) & {"train"} and set(returned) <= set(SPLITS):
        returned = {SPLITS[name]: value for name, value in returned.items()}
        return _checked({"train": None, "val": None} | returned, where)
    if not isinstance(returned, (tuple, list)) or len(returned) not in (2, 3):
        hint = RETURNS
        if isinstance(returned, (tuple, list)) and len(returned) == 4 and all(map(_is_array, returned)):
            hint = "return (x_train, y_train), (x_val, y_val)"
        elif (
            hasattr(returned, "__getitem__") and hasattr(returned, "__len__") and not isinstance(returned, (str, tuple))
        ):
            hint = f"{RETURNS} For one Dataset: return dataset, None"
        raise UsageError(f"{where} returned {described(returned)}", hint)
    if all(isinstance(item, (Tensor, np.ndarray)) for item in returned):
        raise UsageError(
            f"{where} returned one pair of arrays, not splits", f"{RETURNS} (inputs, targets), None will do."
        )
    return _checked(dict(zip(("train", "val", "test"), returned, strict=False)), where)


def _checked(splits: dict[str, Any], where: str) -> dict[str, Any]:
    if splits["train"] is None:
        raise UsageError(f"{where} returned None for train", RETURNS)
    return splits


def taken(value: Any, where: str) -> Given:
    """Return a split with what a DataLoader around it says; the lists of a pair are made arrays, or examples.

    Raises:
        UsageError: it is no Dataset, it is empty, its length is not known.
    """
    given = _from_loader(value, where) if isinstance(value, DataLoader) else Given(value, where)
    value = given.dataset
    if isinstance(value, IterableDataset) or (hasattr(value, "__iter__") and not hasattr(value, "__getitem__")):
        return replace(given, dataset=_with_length(value, where))
    if _is_pair_of_lists(value):
        given = replace(given, dataset=_from_lists(*value))
    if as_pair(given) is None:
        _require_dataset(given.dataset, where)
    return given


def _from_loader(loader: DataLoader[Any], where: str) -> Given:
    """Take a DataLoader for its dataset, its collate function and its sampler; tuner makes the batches."""
    if loader.batch_size is None and loader.batch_sampler is None:
        raise UsageError(f"{where} is a DataLoader that makes no batches", "Return its dataset.")
    collate = None if loader.collate_fn is default_collate else loader.collate_fn
    sampler = getattr(loader, "sampler", None)
    own_order = sampler is not None and not isinstance(loader.dataset, IterableDataset)
    if sampler is None or not own_order or type(sampler) in PLAIN_SAMPLERS:
        return Given(loader.dataset, where, collate)
    return Given(loader.dataset, where, collate, lambda: [int(i) for i in sampler])


def _with_length(value: Any, where: str) -> Any:
    try:
        size = len(value)
    except (TypeError, NotImplementedError):
        raise UsageError(
            f"{where} is an IterableDataset of unknown length",
            "State the number of examples of one pass: def __len__(self): return 50000, or .with_length(50000) of a "
            "WebDataset.",
        ) from None
    if not size:
        raise UsageError(f"{where} is empty", "Return at least two examples per class.")
    return value


def _is_pair_of_lists(value: Any) -> bool:
    """Return whether a value is (inputs, targets) in lists, and not a list of two examples."""
    if not isinstance(value, tuple) or len(value) != 2 or not isinstance(value[0], list):
        return False
    if not isinstance(value[1], (list, np.ndarray, Tensor)):
        return False
    return len(value[0]) == len(value[1]) > 0 and np.ndim(value[1][0]) == 0


def _from_lists(inputs: list[Any], targets: Any) -> Any:
    """Return arrays of lists of numbers; of tensors of several lengths, a list of examples."""
    if isinstance(inputs[0], (Tensor, np.ndarray)):
        return list(zip(inputs, targets, strict=True))
    return np.asarray(inputs), np.asarray(targets)


def as_pair(given: Given) -> tuple[Any, Any] | None:
    """Return (inputs, targets) of a pair of arrays, a TensorDataset or a Subset of one; None for anything else."""
    if given.collate is not None or given.order is not None:
        return None
    return _pair(given.dataset, given.where)


def _pair(value: Any, where: str) -> tuple[Any, Any] | None:
    if type(value) is Subset:
        pair = _pair(value.dataset, where) if isinstance(value.dataset, (Subset, TensorDataset)) else None
        return None if pair is None else (pair[0][list(value.indices)], pair[1][list(value.indices)])
    if type(value) is TensorDataset:
        value = value.tensors
        if len(value) != 2:
            raise UsageError(
                f"{where} is a TensorDataset of {len(value)} tensors, not of inputs and targets",
                "TensorDataset(inputs, targets); several inputs: a Dataset that gives ((a, b), target).",
            )
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(map(_is_array, value)):
        return None
    inputs, targets = value
    if len(inputs) != len(targets):
        raise UsageError(f"{where}: {len(inputs)} inputs but {len(targets)} targets", "Each input needs one target.")
    if not len(inputs):
        raise UsageError(f"{where} is empty", "Return at least two examples per class.")
    return inputs, targets


def _is_array(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray)) or type(value).__module__.split(".")[0] == "pandas"


def _require_dataset(value: Any, where: str) -> None:
    if isinstance(value, (Tensor, np.ndarray, str, dict)) or not (
        hasattr(value, "__getitem__") and hasattr(value, "__len__")
    ):
        raise UsageError(f"{where} is {described(value)}, not a Dataset with __len__ and __getitem__", RETURNS)
    if not len(value):
        raise UsageError(f"{where} is empty", "Return at least two examples per class.")
