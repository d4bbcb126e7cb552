"""The data before normalisation and augmentation: loaded, decoded, split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tuner.core.errors import InputError, UsageError
from tuner.core.result import Skipped
from tuner.core.streams import derive_seed
from tuner.core.trial import TrialEnv, canonical_json
from tuner.parts.columns import Columns, fill_missing
from tuner.parts.examples import Loaded, OnProgress, Split, Stored
from tuner.parts.normalise import Normaliser
from tuner.recipe import registry
from tuner.recipe.model import Data as DataTable
from tuner.tasks.base import Task
from tuner.tasks.classification import Classification
from tuner.tasks.told import task_of
from tuner.train import splits
from tuner.train.cache import NoRoom, cache_folder, open_stored
from tuner.train.nested import is_one
from tuner.train.stores import ArrayStore, Part, StreamStore
from tuner.train.userdata import Reading, UserSplit, load_user

DEFAULT_TEST_FRACTION = 0.2

_memo: dict[str, Prepared] = {}  # the built-in source that this process loaded last


@dataclass(frozen=True)
class Prepared:
    """Everything about the data but normalisation and augmentation, which a search may vary."""

    parts: Mapping[str, Part]
    sizes: Mapping[str, int]
    num_classes: int
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...] | None
    task: Task = field(default_factory=Classification)
    stochastic: bool = False
    skipped: tuple[Skipped, ...] = ()
    watched: tuple[tuple[Path, int], ...] = ()
    fitted: dict[str, Normaliser] = field(default_factory=dict)
    columns: Columns | None = None
    weights: torch.Tensor | None = None  # of the examples of the source's train split, in its order


@dataclass(frozen=True)
class Wanted:
    """What is to be loaded: the data table with its arguments, the loss (which may ignore targets), and for whom."""

    table: DataTable
    args: Mapping[str, Any]
    loss: Mapping[str, Any]
    device: torch.device
    with_test: bool


def prepare_built_in(wanted: Wanted, env: TrialEnv, report: OnProgress) -> Prepared:
    """Load a built-in source, decoded at most once in this process and on this machine."""
    table, args, device, with_test = wanted.table, wanted.args, wanted.device, wanted.with_test
    folder = cache_folder(env.cache_dir)
    kept = table.model_dump(exclude={"normalize", "augment"})
    key = canonical_json([kept, str(folder), str(device), with_test, wanted.loss.get("ignore_index")])
    if key in _memo and _memo[key].watched == _watch([path for path, _ in _memo[key].watched]):
        return _memo[key]
    fn = registry.resolve("source", table.source, env.recipe_dir)
    offered = {"cache_dir": folder, "task": table.task, "recipe_dir": env.recipe_dir}
    kwargs = registry.bind(fn, offered, args, "data")
    loaded: Loaded = registry.call(fn, kwargs, "data", env.recipe_dir)
    found = {"train": loaded.train, "val": loaded.val, "test": loaded.test}
    present = {name: split for name, split in found.items() if split is not None}
    targets = {name: _opened(split.targets, folder, report) for name, split in present.items()}
    source = f"data.source {table.source}"
    task = task_of(table.task, targets["train"], source, wanted.loss)
    labels = {name: task.as_targets(values, source) for name, values in targets.items()}

    def part(name: str) -> Part:
        split: Split = present[name]
        own = torch.from_numpy(labels[name])
        where = f"data.source {table.source}: {name}"
        kept = _kept(split, table, folder, report)
        if kept is None:
            assert isinstance(split.inputs, Stored) and split.inputs.read is not None
            rows = _Rows(split.inputs.read, labels[name], loaded.images)
            shape = tuple(rows[0][0].shape)
            store = StreamStore(rows, where, env.recipe_dir, shape, table.loader_workers, as_target=task.as_targets)
            return Part(store, None, own, split.place)
        values = torch.from_numpy(kept)
        if not loaded.images and values.dtype not in (torch.uint8, torch.int32, torch.int64):
            values = values.float()
        return Part(ArrayStore(values, own, loaded.images).to(device), None, own, split.place)

    whole = Whole(table, task, labels, part, loaded.class_names)
    prepared = _prepare(whole, {"test", "val"} - set(present), with_test)
    _one_shape({name: part.store.shape for name, part in prepared.parts.items()}, table.source)
    prepared = replace(
        prepared, feature_names=loaded.feature_names, watched=_watch(loaded.watch), columns=loaded.columns
    )
    if loaded.weights is not None:
        prepared = replace(prepared, weights=torch.from_numpy(loaded.weights))
    prepared = _resized(_filled(prepared), table)
    _memo.clear()
    _memo[key] = prepared
    return prepared


def _resized(prepared: Prepared, table: DataTable) -> Prepared:
    """Return images that come in the size of `data.resize`, in every split.

    Raises:
        UsageError: the inputs are no images, or a Dataset reads them one by one.
    """
    if table.resize is None:
        return prepared
    asked = table.resize
    size = (asked, asked) if isinstance(asked, int) else (asked[0], asked[1])
    parts = {}
    for name, part in prepared.parts.items():
        if not isinstance(part.store, ArrayStore):
            raise UsageError(f"data.resize: {table.source} reads its examples one by one", "Resize in your Dataset.")
        if not part.store.images:
            raise UsageError(f"data.resize: is of images, the inputs have shape {part.store.shape}", "Leave it out.")
        parts[name] = replace(part, store=replace(part.store, size=size))
    return replace(prepared, parts=parts)


def _filled(prepared: Prepared) -> Prepared:
    """Return a table with its missing cells filled by what train says, where the recipe asks for it."""
    train, columns = prepared.parts["train"], prepared.columns
    if columns is None or columns.fill is None or not isinstance(train.store, ArrayStore):
        return prepared
    rows = train.positions(None).numpy()
    values, names, done = fill_missing(train.store.values.cpu().numpy(), rows, prepared.feature_names or (), columns)
    store = replace(train.store, values=torch.from_numpy(values).to(train.store.values.device))
    parts = {name: replace(part, store=store) for name, part in prepared.parts.items()}
    return replace(prepared, parts=parts, feature_names=names, columns=done)


@dataclass(frozen=True)
class _Rows:
    """The examples of an array that is not kept decoded: each is made when it is read."""

    make: Callable[[int], np.ndarray]
    labels: np.ndarray
    images: bool

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, np.ndarray]:
        values = torch.from_numpy(np.array(self.make(i)))
        return values.permute(2, 0, 1) if self.images else values, self.labels[i]


def _kept(split: Split, table: DataTable, folder: Path, report: OnProgress) -> np.ndarray | None:
    """Return a split's inputs decoded, or None where they stream: the user says so, or the disk has no room."""
    can_stream = isinstance(split.inputs, Stored) and split.inputs.read is not None
    if can_stream and table.cache is False:
        return None
    try:
        return _opened(split.inputs, folder, report)
    except NoRoom as problem:
        if not can_stream or table.cache:
            raise
        report(0.0, f"not kept decoded, read again in every epoch: {problem.message}")
        return None


def _watch(paths: Sequence[Path]) -> tuple[tuple[Path, int], ...]:
    return tuple((path, path.stat().st_mtime_ns if path.exists() else 0) for path in paths)


def _opened(values: np.ndarray | Stored, folder: Path, report: OnProgress) -> np.ndarray:
    return open_stored(values, folder, report) if isinstance(values, Stored) else values


def prepare_users(wanted: Wanted, env: TrialEnv, report: OnProgress) -> Prepared:
    """Load what the user's function gives."""
    table, device, with_test = wanted.table, wanted.device, wanted.with_test
    seed = derive_seed(table.split_seed, "load")
    reading = Reading(
        env.recipe_dir,
        bool(table.cache),
        table.loader_workers,
        table.collate,
        table.task,
        dict(wanted.loss),
        env.cache_dir,
    )
    found, task = load_user(table.source, wanted.args, reading, seed, with_test, report)
    present = {name: split for name, split in found.items() if split is not None}
    train = present["train"]
    own_test = "test" in present
    missing = {"val"} - set(present)
    if missing and not own_test:
        missing |= {"test"}
    if missing and train.stochastic:
        raise UsageError(
            f"data.source {table.source}: two reads of one train example differ, and val is None: "
            "a val split cut from it would be augmented too",
            "Return (train, val) yourself, val without random transforms.",
        )
    if with_test and not own_test and "test" not in missing:
        raise InputError(
            f"data.source {table.source} returned (train, val): there is no test split",
            "Return (train, val, test), or None for val, and tuner sets a test split aside.",
        )
    skipped = []
    if train.stochastic:
        why = "two reads of one train example differ: the Dataset augments by itself, also when it is evaluated"
        skipped.append(Skipped("gap between train and val", why))
    if "val" in present and present["val"].stochastic:
        skipped.append(Skipped("repeatable evaluation", "two reads of one val example differ"))
    read = {name: split.store for name, split in present.items() if name != "test" or with_test}
    if not any(isinstance(store, StreamStore) and store.collate is not None for store in read.values()):
        _one_shape({name: store.shape for name, store in read.items()}, table.source)

    def part(name: str) -> Part:
        split = present[name]
        return Part(split.store.to(device), None, torch.from_numpy(split.labels), split.place)

    labels = {name: split.labels for name, split in present.items()}
    prepared = _prepare(Whole(table, task, labels, part, train.class_names), missing, with_test)
    if prepared.parts["train"].in_own_order:
        why = "train is a stream: its examples come in its own order, the same in every epoch unless it shuffles itself"
        skipped.append(Skipped("a new order in every epoch", why))
    return _resized(replace(prepared, stochastic=train.stochastic, skipped=tuple(skipped)), table)


def prepared_of(found: Mapping[str, UserSplit], task: Task, table: DataTable, device: torch.device) -> Prepared:
    """Return splits that are read already; without val, one is set aside from train."""

    def part(name: str) -> Part:
        split = found[name]
        return Part(split.store.to(device), None, torch.from_numpy(split.labels), split.place)

    labels = {name: split.labels for name, split in found.items()}
    prepared = _prepare(Whole(table, task, labels, part, found["train"].class_names), {"val"} - set(found), False)
    return replace(prepared, stochastic=found["train"].stochastic)


@dataclass(frozen=True)
class Whole:
    """The splits as the source has them, before any is cut from train."""

    table: DataTable
    task: Task
    labels: Mapping[str, np.ndarray]
    part: Callable[[str], Part]
    class_names: tuple[str, ...] | None


def _prepare(given: Whole, missing: set[str], with_test: bool) -> Prepared:
    """Cut the missing splits from train, take the train_eval subset, and count the classes."""
    table, task, labels, class_names = given.table, given.task, given.labels, given.class_names
    fractions = {
        "test": table.test_fraction if table.test_fraction is not None else DEFAULT_TEST_FRACTION,
        "val": table.val_fraction,
    }
    asked = {name: fraction for name, fraction in fractions.items() if name in missing}
    _several_classes(labels["train"], table.source, class_names, task)
    cutting = splits.Cutting(table.split_seed, class_names, table.source, whole_strata=task.by_group())
    strata = task.strata(labels["train"])
    cut = splits.split(strata, asked, cutting)
    sizes = {name: len(values) for name, values in {**labels, **cut}.items()}
    _enough(labels, cut, table, task)
    whole = given.part("train")
    parts: dict[str, Part] = {}
    for name in ("train", "val", "test"):
        if name not in sizes or (name == "test" and not with_test):
            continue
        if name in cut and missing:
            indices = torch.from_numpy(cut[name])
            parts[name] = Part(whole.store, indices, whole.targets[indices], whole.place)
        else:
            parts[name] = whole if name == "train" else given.part(name)
    train = parts["train"]
    _, subset = splits.take(
        strata[cut["train"]], min(sizes["val"], sizes["train"]), derive_seed(table.split_seed, "train_eval")
    )
    chosen = torch.from_numpy(subset)
    parts["train_eval"] = Part(train.store, train.positions(chosen), train.targets[chosen], train.place)
    sizes["train_eval"] = len(subset)
    num_classes = table.num_classes or task.width(*(parts[name].targets.numpy() for name in ("train", "val")))
    known = class_names or ()
    names = (*known[:num_classes], *(str(i) for i in range(len(known), num_classes)))
    return Prepared(parts, sizes, num_classes, names, None, task)


def _one_shape(shapes: Mapping[str, Any], source: str) -> None:
    for name, shape in shapes.items():
        if not is_one(shape):
            continue
        if not shape:
            raise UsageError(
                f"data.source {source}: {name} has one number per example, not a row of them",
                "One row per example: inputs.reshape(-1, 1) for a single feature.",
            )
        if 0 in shape:
            raise UsageError(f"data.source {source}: {name} has inputs of shape {shape}: no number in them")
        if shape != shapes["train"]:
            raise UsageError(
                f"data.source {source}: {name} has inputs of shape {shape}, train of {shapes['train']}",
                "All splits need one shape.",
            )


def _several_classes(train: np.ndarray, source: str, names: tuple[str, ...] | None, task: Task) -> None:
    if len(np.unique(train)) < 2:
        if task.noun in ("value", "label"):
            raise InputError(
                f"data.source {source}: all {len(train)} train targets are {np.ravel(train)[0]:g}",
                "There is nothing to learn; check how the targets are read.",
            )
        train = np.ravel(train)
        only = repr(names[train[0]]) if names is not None and 0 <= train[0] < len(names) else train[0]
        raise InputError(
            f"data.source {source}: all {len(train)} train examples are of one class ({only})",
            "There is nothing to tell apart; check how the labels are read.",
        )


def _enough(labels: Mapping[str, np.ndarray], cut: Mapping[str, np.ndarray], table: DataTable, task: Task) -> None:
    if labels["train"].ndim > 1 or task.noun != "class":
        return
    train = labels["train"][cut["train"]]
    classes = table.num_classes or int(labels["train"].max()) + 1
    if len(train) < classes:
        why = "data.num_classes" if table.num_classes else "the largest label plus one"
        raise InputError(
            f"data.source {table.source}: {len(train)} train examples for {classes} classes ({why})",
            "Add examples, or check the labels.",
        )
