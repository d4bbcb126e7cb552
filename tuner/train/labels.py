"""The labels of a user's Dataset: beside its examples where it holds them, else read once, on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuner.core.errors import UsageError
from tuner.parts.examples import OnProgress, Stored
from tuner.tasks.base import Task
from tuner.tasks.classification import IGNORED
from tuner.train.cache import NoRoom, cache_path, open_stored
from tuner.train.forms import Given
from tuner.train.nested import together
from tuner.train.stores import SequentialStore, StreamStore, as_array

PROBED = 16  # examples that must have the targets that the Dataset holds beside them
KEPT_FROM = 2000  # examples: reading the labels of fewer takes no time worth a file
AGREEING = 64  # examples whose targets are read again before those of the cache are believed
AT_ONCE = 4096  # targets that are put together at a time: a list of a million small arrays takes 100 MB


def labels_of(store: StreamStore, key: str | None, folder: Path, on_progress: OnProgress) -> np.ndarray:
    """Return the targets of a Dataset, of a large one from the cache, where any process has read it before.

    What the cache holds is believed where it agrees with examples that are read; `key` None: it is not asked.
    """

    def make(allocate: Callable[..., np.ndarray], _: OnProgress) -> None:
        _, targets = read_all(store, on_progress, keep=False)
        allocate(targets.shape, targets.dtype)[:] = targets

    if key is None or len(store) < KEPT_FROM:
        return read_all(store, on_progress, keep=False)[1]
    stored = Stored("labels", {"labels of": key, "source": store.where}, make)
    try:
        found = np.array(open_stored(stored, folder, on_progress))
        if not _agree(store, found, AGREEING):
            cache_path(stored, folder).unlink(missing_ok=True)
            found = np.array(open_stored(stored, folder, on_progress))
        return found
    except NoRoom:
        return read_all(store, on_progress, keep=False)[1]


def labels_at_hand(given: Given, store: StreamStore, task: Task) -> np.ndarray | None:
    """Return the targets that the Dataset holds beside its examples (`.targets`, `.labels`), as torchvision's do.

    Where they agree with those of examples that are read: a million need not be made for their labels then.
    """
    held = next((getattr(given.dataset, name, None) for name in ("targets", "labels")), None)
    if not isinstance(held, (list, np.ndarray, Tensor)) or len(held) != len(store) or given.collate is not None:
        return None
    try:
        targets = task.as_targets(as_array(held), given.where)
    except (UsageError, ValueError):
        return None
    return targets if _agree(store, targets, PROBED) else None


def _agree(store: StreamStore, targets: np.ndarray, count: int) -> bool:
    """Return whether targets are those of examples that are read, evenly over the data set."""
    if len(targets) != len(store):
        return False
    # each read of a stream starts at its beginning
    places = {0} if isinstance(store, SequentialStore) else {i * (len(store) - 1) // count for i in range(count + 1)}
    return all(np.array_equal(store.example(i)[1], targets[i]) for i in places)


def read_all(store: StreamStore, on_progress: OnProgress, keep: bool) -> tuple[Any, np.ndarray]:
    """Read every example; return the inputs where they are to be kept, and the targets."""
    inputs: list[Any] = []
    parts: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    for i, (example, target) in enumerate(store.examples()):
        targets.append(np.asarray(target))
        if keep:
            inputs.append(example)
        if len(targets) == AT_ONCE:
            parts.append(np.stack(_padded(targets, 0)))
            targets = []
        if i % 256 == 0:
            on_progress(i / len(store), f"reading the labels of {len(store)} examples")
    if targets:
        parts.append(np.stack(_padded(targets, 0)))
    return together(torch.stack, inputs) if keep else None, np.concatenate(_padded(parts, 1))


def _padded(arrays: Sequence[np.ndarray], axis: int) -> Sequence[np.ndarray]:
    """Pad arrays (tokens) whose sizes from an axis on differ with the class that is ignored."""
    if len({array.shape[axis:] for array in arrays}) == 1:
        return arrays
    longest = np.max([array.shape[axis:] for array in arrays], axis=0)
    room = [
        [*[(0, 0)] * axis, *((0, most - size) for most, size in zip(longest, array.shape[axis:], strict=True))]
        for array in arrays
    ]
    return [np.pad(array, pad, constant_values=IGNORED) for array, pad in zip(arrays, room, strict=True)]
