"""Which task a recipe has: the one that `data.task` names, or the only one that its targets can be read as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tuner.core.errors import UsageError
from tuner.tasks.base import Task
from tuner.tasks.classification import IGNORED, Classification, Positions
from tuner.tasks.embedding import Embedding
from tuner.tasks.multilabel import Multilabel
from tuner.tasks.regression import Regression


def task_of(named: str | None, targets: Any, where: str, loss: Mapping[str, Any]) -> Task:
    """Return the task. `loss`: the recipe's table, whose `ignore_index` says which positions have no class.

    Raises:
        UsageError: the targets can be read in several ways; the line that says which is named.
    """
    array = np.asarray(targets)
    ignored = loss.get("ignore_index", IGNORED)
    if named == "multilabel":
        return Multilabel()
    if named == "regression":
        return Regression()
    if named == "embedding":
        return Embedding()
    if named == "classification":
        positions = array.ndim > 2 or (array.ndim == 2 and array.shape[1] > 1)
        return Positions(ignored) if positions and array.dtype.kind in "biu" else Classification()
    return _read(array, where, ignored)


def _read(array: np.ndarray, where: str, ignored: int) -> Task:
    columns = array.ndim == 2 and array.shape[1] > 1
    if array.dtype.kind in "biu" and array.ndim > 2:
        return Positions(ignored)
    if columns and ((array == 0) | (array == 1)).all():
        if (array.sum(1) == 1).all():
            return Classification()  # refuses it, and says how one-hot targets become classes
        raise _several(array, where, "multilabel", "classification")
    if columns and array.dtype.kind in "biu":
        raise _several(array, where, "classification", "regression")
    if array.dtype.kind == "f" and array.ndim in (1, 2) and (array[np.isfinite(array)] % 1 != 0).any():
        return Regression()
    return Classification()


def _several(array: np.ndarray, where: str, *names: str) -> UsageError:
    meaning = {
        "multilabel": "several labels per example, each there or not",
        "classification": "one class per position",
        "regression": "several quantities per example",
    }
    lines = " or ".join(f'data.task = "{name}" ({meaning[name]})' for name in names)
    return UsageError(
        f"{where}: the targets have shape {array.shape}, {array.dtype}, which can be read in more than one way",
        f"Say which: {lines}.",
    )
