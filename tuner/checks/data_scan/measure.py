"""Look at every example of train and val once: numbers, labels, constant and repeated inputs. Never at test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tuner.checks.data_scan.evidence import DataScan
from tuner.checks.tools.columns import _by_column
from tuner.checks.tools.examples import per_chunk
from tuner.checks.tools.frame import keys_of, of_data_alone
from tuner.tasks.base import baseline, is_known, monitored_score
from tuner.tasks.classification import Positions
from tuner.train.data import Data
from tuner.train.setup import Setup

SPLITS = ("train", "val")
MOST = 200_000  # examples of a split that are looked at
MOST_STREAMED = 50_000  # of those that are made each time that they are read


@of_data_alone
def data_scan(setup: Setup, scan_chunk: int = 2048) -> DataScan:
    """Scan the inputs and labels of train and val, as loaded (before normalisation).

    Of splits that are larger than MOST (MOST_STREAMED where examples are made when they are read) the inputs of an even
    sample are looked at, among which equal ones are not looked for; labels are all looked at.
    """
    data = setup.data
    found: dict[str, Any] = {"class_names": list(data.class_names or []), "num_classes": data.num_classes}
    found["test_examples"] = data.size("test")
    found["columns"] = data.columns.to_json() if data.columns is not None else {}
    found |= _baseline(setup)
    prints: dict[str, list[bytes]] = {}
    for split in SPLITS:
        if data.size(split):
            found[split], prints[split] = _scan(data, split, scan_chunk)
    if data.stochastic:
        return DataScan.from_json(
            {**found, "no_duplicates": "two reads of one example differ, so equal examples cannot be decided"}
        )
    if partly := [split for split in prints if len(prints[split]) < data.size(split)]:
        read = " and ".join(f"{len(prints[split]):,} of {data.size(split):,} {split} examples" for split in partly)
        return DataScan.from_json({**found, "no_duplicates": f"only {read} were read"})
    for split, hashes in prints.items():
        found[split] |= _repeats(data, split, hashes)
    if len(prints) == len(SPLITS):
        found["across"] = _shared(data, prints)
    return DataScan.from_json(found)


def _baseline(setup: Setup) -> dict[str, Any]:
    """Return what an answer that ignores the input scores on val; nothing where that is not known."""
    data = setup.data
    name = monitored_score(data.task, setup.tables["train"].get("monitor", "val_accuracy"))
    if not data.size("val") or not is_known(data.task, name):
        return {}
    targets = data.targets("val")
    if isinstance(data.task, Positions):
        targets = targets[targets != data.task.ignore_index]
    return {"score_name": name, "baseline": baseline(data.task, name, targets.numpy())}


def _chunks(data: Data, split: str, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Give the places in a split that are looked at, and their inputs, some at a time."""
    size, most = data.size(split), MOST_STREAMED if data.streams else MOST
    places = torch.arange(size) if size <= most else torch.linspace(0, size - 1, most, dtype=torch.double).long()
    for some in places.split(min(chunk, per_chunk(data.input_shape))):
        yield some, data.inputs(split, some)


@dataclass
class _Sums:
    """Running sums per channel or column, in double precision."""

    count: int
    total: Tensor
    square: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, values: Tensor) -> _Sums:
        sums, squares = values.sum((0, 2)), values.square().sum((0, 2))
        return cls(values.shape[0] * values.shape[2], sums, squares, values.amin((0, 2)), values.amax((0, 2)))

    def add(self, other: _Sums) -> _Sums:
        return _Sums(
            self.count + other.count,
            self.total + other.total,
            self.square + other.square,
            torch.minimum(self.low, other.low),
            torch.maximum(self.high, other.high),
        )

    def to_json(self) -> dict[str, Any]:
        mean = self.total / self.count
        std = (self.square / self.count - mean.square()).clamp_min(0).sqrt()
        return {name: t.tolist() for name, t in (("min", self.low), ("max", self.high), ("mean", mean), ("std", std))}


def _scan(data: Data, split: str, chunk: int) -> tuple[dict[str, Any], list[bytes]]:
    """Return the statistics of one split and one hash per example."""
    bad, first_bad, constant = 0, None, 0
    bad_columns: dict[int, int] = {}
    sums: _Sums | None = None
    prints: list[bytes] = []
    raw = torch.empty(0)
    for places, raw in _chunks(data, split, chunk):
        prints += keys_of(raw)
        values = _by_column(raw)
        finite = values.isfinite()
        if not finite.all():
            bad += int((~finite).sum())
            first_bad = first_bad or _place(data, split, places, ~finite)
            for column, count in enumerate((~finite).sum((0, 2)).tolist()):
                bad_columns[column] = bad_columns.get(column, 0) + count
            values = torch.where(finite, values, torch.zeros_like(values))
        flat = raw.reshape(len(raw), -1)
        constant += int((flat.amin(1) == flat.amax(1)).sum()) if flat.shape[1] > 1 else 0
        sums = _Sums.of(values) if sums is None else sums.add(_Sums.of(values))
    assert sums is not None  # the split has examples
    return {
        "n": data.size(split),
        "scanned": len(prints) if len(prints) < data.size(split) else None,
        "shape": list(raw.shape[1:]),
        "dtype": str(raw.dtype).removeprefix("torch."),
        **sums.to_json(),
        "non_finite": bad,
        "first_non_finite": first_bad,
        "non_finite_columns": {_column(data, column): count for column, count in bad_columns.items() if count},
        "constant_inputs": constant,
        "constant_columns": [_column(data, i) for i in torch.nonzero(sums.low == sums.high).flatten().tolist()],
        **_labels(data, split),
    }, prints


def _labels(data: Data, split: str) -> dict[str, Any]:
    targets = data.targets(split)
    if data.task.noun != "class":
        return _quantities(data, targets)
    if isinstance(data.task, Positions):
        targets = targets[targets != data.task.ignore_index]
    is_outside = (targets < 0) | (targets >= data.num_classes)
    outside = torch.nonzero(is_outside).flatten().tolist()
    return {
        "class_counts": torch.bincount(targets[~is_outside], minlength=data.num_classes).tolist(),
        "label_range": [int(targets.min()), int(targets.max())],
        "labels_outside": len(outside),
        "first_label_outside": data.describe(split, outside[0]) if outside and targets.ndim == 1 else None,
    }


def _quantities(data: Data, targets: Tensor) -> dict[str, Any]:
    """Say of targets that are no classes how they spread; of labels how many examples have each."""
    wide = targets.reshape(len(targets), -1).double()
    counts = wide.sum(0).long().tolist() if data.task.noun == "label" else []
    return {
        "class_counts": counts,
        "label_range": [float(wide.min()), float(wide.max())],
        "labels_outside": 0,
        "first_label_outside": None,
        "target_mean": wide.mean(0).tolist(),
        "target_std": wide.std(0, correction=0).tolist(),
    }


def _column(data: Data, index: int) -> str:
    names = data.feature_names
    return str(names[index]) if names else f"channel {index}" if data.is_image else f"column {index}"


def _place(data: Data, split: str, places: Tensor, bad: Tensor) -> str:
    row, column, _ = (int(i) for i in bad.nonzero()[0])
    return f"{data.describe(split, int(places[row]))}, {_column(data, column)}"


def _repeats(data: Data, split: str, prints: list[bytes]) -> dict[str, Any]:
    """Count the examples that repeat an earlier one of the split, and those whose label contradicts it."""
    targets = [tuple(row) for row in data.targets(split).reshape(len(prints), -1).tolist()]
    first: dict[bytes, int] = {}
    repeated: list[tuple[int, int]] = []
    for i, key in enumerate(prints):
        if first.setdefault(key, i) != i:
            repeated.append((first[key], i))
    conflicts = [(a, b) for a, b in repeated if targets[a] != targets[b]]
    return {
        "duplicates": len(repeated),
        "first_duplicate": _pair(data, split, split, repeated),
        "conflicting": len(conflicts),
        "first_conflict": _pair(data, split, split, conflicts),
    }


def _shared(data: Data, prints: dict[str, list[bytes]]) -> dict[str, Any]:
    """Count the val examples that are in train as well."""
    train: dict[bytes, int] = {}
    for i, key in enumerate(prints["train"]):
        train.setdefault(key, i)
    shared = [(train[key], i) for i, key in enumerate(prints["val"]) if key in train]
    labels = {split: data.targets(split).reshape(len(prints[split]), -1).tolist() for split in SPLITS}
    agreeing = sum(labels["train"][a] == labels["val"][b] for a, b in shared)
    return {
        "duplicates": len(shared),
        "share": len(shared) / len(prints["val"]),
        "agreeing": agreeing,
        "first": _pair(data, "train", "val", shared),
    }


def _pair(data: Data, split_a: str, split_b: str, pairs: list[tuple[int, int]]) -> list[str] | None:
    if not pairs:
        return None
    a, b = pairs[0]
    return [data.describe(split_a, a), data.describe(split_b, b)]
