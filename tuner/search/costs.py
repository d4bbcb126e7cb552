"""What the parts of a search take, from the trials that have been run: seconds per epoch, per evaluation, per item."""

from __future__ import annotations

import bisect
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tuner.core.metrics import SplitScan
from tuner.core.result import Record
from tuner.core.trial import canonical_json

FORWARD = 0.35  # of a step is its forward pass: what evaluating the same examples takes
ITEM_SECONDS = 0.015  # setting a trial up, saving its state and handing it over, where nothing measured it
LEAST_ITEM_SECONDS = 0.003
HANDED_SECONDS = 0.03  # between two items of a worker, where nothing measured it: a process ends, another begins
FIXED_SECONDS = 4.5  # of a command: workers start, the recipe is tried out, the plots are drawn
WRITING_SECONDS = 1.0  # of a search in a longer command: its files; the workers are there, its plots are drawn beside
TRUSTED_STEPS = 20  # of a timing: a shorter one is no better than what the sweep has measured
TEXT_BYTES, ROW_BYTES, PLOT_BYTES = 4_000, 600, 400_000  # of a trial's lines, of an epoch in them, of a stage's plots
SIZES = ("model.", "data.", "train.batch_size")  # beginnings of the keys that decide how long an epoch takes
COPIES = 5  # of the weights that a stopped trial keeps: model, two of the optimizer, the best ones twice


@dataclass(frozen=True)
class Costs:
    """Seconds that a worker takes, when `workers` run at once. `source`: the stage that they were measured in.

    `spread`: standard deviation of the trials' epoch seconds over their mean; where trials differ, workers wait.
    `relative`: epoch seconds over their mean of the configurations that a search begins with, as far as measured.
    """

    epoch_seconds: float
    evaluation_seconds: float
    item_seconds: float = ITEM_SECONDS
    fixed_seconds: float = FIXED_SECONDS
    workers: int = 1
    source: str = ""
    spread: float = 0.0
    relative: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def of_sweep(
    records: Sequence[Record], data: Mapping[str, SplitScan], batch_size: int, precision: str, workers: int
) -> Costs | None:
    """Return costs from the steps of lr-sweep, at the precision that it settled where that was tried.

    `data`: check-init's scan, for the sizes of train and val. None where no trial went through its steps.
    """
    whole = [r for r in records if r.item.spec.horizon_steps and r.result.status == "completed"]
    whole = [record for record in whole if record.item.spec.precision == precision] or whole
    train, val = (_size(data, split) for split in ("train", "val"))
    if not whole or not train:
        return None
    item = _item_seconds(records)
    step = statistics.median((r.result.wall_seconds - item) / int(r.item.spec.horizon_steps or 1) for r in whole)
    step = max(step, 1e-6)
    epoch = step * math.ceil(train / batch_size)
    return Costs(epoch, FORWARD * epoch * val / train, item + handed_over(records), workers=workers)


@dataclass(frozen=True)
class Timed:
    """A shorter and a longer run of some configurations; `coming`: parameters of those that the search begins with."""

    records: Sequence[Record] = ()
    coming: Sequence[Mapping[str, Any]] = ()


def size_of(params: Mapping[str, Any]) -> str:
    """Return what decides how long an epoch takes: the keys of model, data and batch, but for real numbers."""
    own = {key: value for key, value in params.items() if key.startswith(SIZES) and not isinstance(value, float)}
    return canonical_json(own)


def of_timing(timed: Timed, data: Mapping[str, SplitScan], workers: int) -> Costs | None:
    """Return costs from the timing of some of the search's own configurations; None without any.

    The sweep has timed the recipe's own configuration alone; others may be twice as wide. What is not proportional to
    the steps is setting up. A configuration that was not timed takes as long as those of the same size.
    """
    records = timed.records
    train, val = (_size(data, split) for split in ("train", "val"))
    runs: dict[int, dict[int, float]] = {}  # number -> {steps: seconds}
    for record in records:
        if record.result.status == "completed":
            runs.setdefault(record.number, {})[int(record.item.spec.horizon_steps or 1)] = record.result.wall_seconds
    both = {number: seconds for number, seconds in runs.items() if len(seconds) > 1}
    if not both or not train:
        return None
    item = max(statistics.median_low([_intercept(seconds) for seconds in both.values()]), LEAST_ITEM_SECONDS)
    batch_sizes = {record.number: record.item.spec.tables["train"]["batch_size"] for record in records}
    epochs = [
        max((seconds[max(seconds)] - item) / max(seconds), 1e-6) * math.ceil(train / batch_sizes[number])
        for number, seconds in both.items()
    ]
    params = {record.number: record.params for record in records}
    by_size: dict[str, list[float]] = {}
    for number, seconds in zip(both, epochs, strict=True):
        by_size.setdefault(size_of(params[number]), []).append(seconds)
    sizes = itertools.takewhile(by_size.__contains__, map(size_of, timed.coming))
    first = [statistics.fmean(by_size[size]) for size in sizes]
    each = first if len(first) > len(epochs) else epochs
    epoch = statistics.fmean(each)
    item, spread = item + handed_over(records), statistics.pstdev(each) / epoch
    relative = tuple(seconds / epoch for seconds in first)
    found = Costs(epoch, FORWARD * epoch * val / train, item, workers=workers, source="timing")
    return replace(found, spread=spread, relative=relative)


def cautious(timed: Costs, swept: Costs | None, steps: int) -> Costs:
    """Return the costs of a timing of so many steps; where these are few, an epoch takes no less than in the sweep."""
    if swept is None or steps >= TRUSTED_STEPS or swept.epoch_seconds <= timed.epoch_seconds:
        return timed
    return replace(timed, epoch_seconds=swept.epoch_seconds, evaluation_seconds=swept.evaluation_seconds)


def of_search(
    records: Sequence[Record],
    sweep: Sequence[Record],
    data: Mapping[str, SplitScan],
    epochs: int,
    workers: int,
    first: Sequence[str] = (),
) -> Costs | None:
    """Return costs from the epochs of coarse (all records, rungs included).

    An epoch takes what it took of `first`, ids of the configurations that fine begins with, in order: they may be the
    largest; else of the trials that went furthest. What is no epoch comes from all of them. None where no trial has
    been through an epoch.
    """
    train, val = (_size(data, split) for split in ("train", "val"))
    done: dict[str, dict[int, float]] = {}  # trial -> {epoch reached: seconds of the item that reached it}
    by_size: dict[str, dict[str, dict[int, float]]] = {}
    for record in records:
        if record.result.status in ("completed", "stopped") and record.result.curve:
            reached = max(int(row["epoch"]) for row in record.result.curve)
            items = done.setdefault(record.result.id, {})
            items[reached] = record.result.wall_seconds
            by_size.setdefault(size_of(record.params), {})[record.result.id] = items
    furthest = {trial: items for trial, items in done.items() if max(items) >= epochs} or done
    counted = {trial: done[trial] for trial in first if trial in done} or furthest
    if not counted:
        return None
    item = _item_of([list(group.values()) for group in by_size.values()], _item_seconds(sweep))
    per_trial = {trial: (sum(items.values()) - item * len(items)) / max(items) for trial, items in counted.items()}
    per_epoch = list(per_trial.values())
    both = max(statistics.fmean(per_epoch), 1e-6)
    begun = itertools.takewhile(per_trial.__contains__, first)
    relative = tuple(max(per_trial[trial] / both, 0.0) for trial in begun)
    share = FORWARD * val / train if train else 0.0
    epoch = both / (1 + share)
    item, spread = item + handed_over(records), statistics.pstdev(per_epoch) / both
    return Costs(epoch, epoch * share, item, workers=workers, spread=spread, relative=relative)


def _item_of(sizes: Sequence[Sequence[Mapping[int, float]]], otherwise: float) -> float:
    """Return what an item takes beside its epochs, from items of different length of one trial, or else of one size.

    `sizes`: of each size its trials, each {epoch reached: seconds of the item that reached it}.
    """
    alone = [_typical([items]) for group in sizes for items in group]
    for groups in (alone, [_typical(group) for group in sizes]):
        if found := [_intercept(typical) for typical in groups if len(typical) > 1]:
            otherwise = statistics.median(found)
            break
    return _within(otherwise, min((min(typical.values()) for typical in alone), default=math.inf))


def _typical(trials: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Return the median seconds of the trials' items by their length in epochs."""
    lengths: dict[int, list[float]] = {}
    for items in trials:
        for before, reached in itertools.pairwise([0, *sorted(items)]):
            lengths.setdefault(reached - before, []).append(items[reached])
    return {length: statistics.median(seconds) for length, seconds in lengths.items()}


def _intercept(seconds: Mapping[int, float]) -> float:
    """Return what the shortest of {length: seconds} takes beyond its length, by the longest."""
    short, long = min(seconds), max(seconds)
    return seconds[short] - short * (seconds[long] - seconds[short]) / (long - short)


def _size(data: Mapping[str, SplitScan], split: str) -> int:
    return data[split].n if split in data else 0


def _item_seconds(records: Sequence[Record]) -> float:
    """Return what a trial of the sweep takes beside its steps: by those that ended early and those that did not."""
    whole = [r for r in records if r.item.spec.horizon_steps and r.result.status == "completed"]
    lengths: dict[int, list[float]] = {}
    for record in whole:
        if record.item.spec.precision == whole[0].item.spec.precision:
            lengths.setdefault(int(record.item.spec.horizon_steps or 1), []).append(record.result.wall_seconds)
    typical = {length: statistics.median(seconds) for length, seconds in lengths.items()}
    item = _intercept(typical) if len(typical) > 1 else ITEM_SECONDS
    return _within(item, min(typical.values(), default=math.inf))


def _within(item: float, shortest: float) -> float:
    """Return what an item takes beside its length: no more than half of the shortest one, and something."""
    return max(min(item, shortest / 2), LEAST_ITEM_SECONDS)


def handed_over(records: Sequence[Record]) -> float:
    """Return the seconds between two items of a worker: from the last end before an item begins, as a rule."""
    spans = [(r.result.started_at, r.result.wall_seconds) for r in records if r.result.started_at is not None]
    ends = sorted(start + seconds for start, seconds in spans)
    places = [(start, bisect.bisect_right(ends, start)) for start, _ in spans]
    gaps = [start - ends[place - 1] for start, place in places if place]
    return statistics.median(gaps) if gaps else HANDED_SECONDS


def disk_bytes(trials: int, total_epochs: int, parameters: int) -> int:
    """Return the most that a search takes on disk: the weights of all trials lie there until it has ended."""
    return PLOT_BYTES + trials * TEXT_BYTES + 2 * total_epochs * ROW_BYTES + trials * COPIES * 4 * parameters
