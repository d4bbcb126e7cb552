"""What a built-in data source returns: plain values, nothing decoded that need not be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.parts.columns import Columns

Allocate = Callable[[tuple[int, ...], Any], np.ndarray]
OnProgress = Callable[[float, str], None]


@dataclass(frozen=True)
class Stored:
    """An array that is kept on disk: `key` is everything that made it, `make` makes it when the disk has none.

    `make(allocate, on_progress)` asks once for an array of a shape and dtype and fills it. `name` begins the file name.
    `read(i)` makes row i alone, for data that are too large to be kept; None where that would not save anything.
    """

    name: str
    key: Mapping[str, Any]
    make: Callable[[Allocate, OnProgress], None]
    read: Callable[[int], np.ndarray] | None = None


def numbered(what: str) -> Callable[[int], str]:
    """Return the words for example i: `inputs[17]`."""
    return lambda i: f"{what}[{i}]"


@dataclass(frozen=True)
class Split:
    """The examples of one split. Images are (N, H, W, C); everything else is (N, ...).

    `place(i)` names example i in a message: its file, or its row.
    """

    inputs: np.ndarray | Stored
    targets: np.ndarray | Stored
    place: Callable[[int], str]


@dataclass(frozen=True)
class Loaded:
    """What a built-in source returns; a split that it does not have is None.

    `watch`: the files and folders that the examples came from, to notice that they changed. `columns`: of a table.
    `weights`: how often each train example is to be drawn, where the source says it: (N,) float.
    """

    train: Split
    val: Split | None = None
    test: Split | None = None
    images: bool = False
    class_names: tuple[str, ...] | None = None
    feature_names: tuple[str, ...] | None = None
    watch: tuple[Path, ...] = ()
    columns: Columns | None = None
    weights: np.ndarray | None = None


def native(array: np.ndarray) -> np.ndarray:
    """Return an array of numbers in this machine's byte order, of no more than 64 bits each, as torch takes them."""
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
