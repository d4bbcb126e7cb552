"""Forms of data that the model and the loss beside them make clear: several inputs per item, yes and no as floats."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from tuner.train.forms import Given, as_pair
from tuner.train.nested import parted
from tuner.train.stores import as_array

LOOKED_AT = 16  # items


@dataclass(frozen=True)
class Changed:
    """A data set whose items are changed when they are read."""

    dataset: Any
    change: Callable[[Any], Any]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> Any:
        return self.change(self.dataset[i])


def in_pairs(given: Given, model: nn.Module) -> Given:
    """Return a split of (a, b, ..., target) as one of ((a, b, ...), target), for a model that needs that many inputs.

    Items of another length are left as they are, and refused where they are read; so are those that a collate function
    of the user's takes.
    """
    inputs = _required(model)
    items = _first(given, 1) if inputs > 1 else []
    if not items or not isinstance(items[0], (tuple, list)) or len(items[0]) != inputs + 1:
        return given
    return replace(given, dataset=Changed(given.dataset, _pair))


def yes_or_no(given: Given, task: str | None) -> Given | None:
    """Return a split of targets 0.0 and 1.0, one per example, with these as classes; None where they are others.

    Binary cross-entropy takes them as floats; its loss is to be handed them so.
    """
    if task not in (None, "classification"):
        return None
    pair = as_pair(given)
    if pair is not None:
        values = as_array(pair[1])
        return Given((pair[0], values.astype(np.int64)), given.where) if _are_yes_or_no(values) else None
    items = [parted(item) for item in _first(given, LOOKED_AT)]
    if not items or any(item is None for item in items):
        return None
    targets = [as_array(item[1]) for item in items if item is not None]
    if len({target.shape for target in targets}) > 1 or not _are_yes_or_no(np.stack(targets)):
        return None
    return replace(given, dataset=Changed(given.dataset, _as_class))


def _required(model: nn.Module) -> int:
    """Return how many inputs the model's forward cannot do without."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(model.forward).parameters.values()
    return sum(item.kind in kinds and item.default is inspect.Parameter.empty for item in parameters)


def _first(given: Given, count: int) -> list[Any]:
    """Return the first items of a data set that is read by place; what is wrong with one is said where it is read."""
    if given.collate is not None or not hasattr(given.dataset, "__getitem__"):
        return []
    if isinstance(given.dataset, tuple) or as_pair(given) is not None:
        return []
    try:
        return [given.dataset[i] for i in range(min(count, len(given.dataset)))]
    except Exception:
        return []


def _pair(item: Any) -> tuple[Any, Any]:
    *inputs, target = item
    return tuple(inputs), target


def _are_yes_or_no(values: np.ndarray) -> bool:
    one_each = values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)
    return values.dtype.kind == "f" and one_each and bool(((values == 0) | (values == 1)).all())


def _as_class(item: Any) -> tuple[Any, int]:
    parts = parted(item)
    assert parts is not None
    target = parts[1]
    return parts[0], int(target.item() if isinstance(target, (Tensor, np.ndarray)) else target)
