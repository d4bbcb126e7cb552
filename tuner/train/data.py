"""The data of a trial: loaded, split, and made into batches on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tuner.core.errors import UsageError, user_code
from tuner.core.result import Skipped
from tuner.core.streams import derive_seed
from tuner.core.trial import Rank, TrialEnv, canonical_json
from tuner.parts.augment._library import PER_EXAMPLE, per_example
from tuner.parts.columns import Columns
from tuner.parts.examples import OnProgress
from tuner.parts.normalise import Normaliser, normaliser
from tuner.recipe import registry
from tuner.recipe.model import Data as DataTable
from tuner.recipe.model import paths_expanded
from tuner.tasks.base import Task
from tuner.train.nested import is_one, mapped
from tuner.train.prepare import Prepared, Wanted, prepare_built_in, prepare_users
from tuner.train.shares import Share, share_of, sizes_of
from tuner.train.stores import Part, StreamStore, described, in_batches
from tuner.train.userdata import seeded

AUGMENTED = ("inputs", "targets", "generator")  # what an augmentation is offered, in this order
OFFERED = (*AUGMENTED, "num_classes")  # what it is offered by name
DRAWN_FROM = ("targets", "generator", "weights")  # what a sampler is offered; weights: of the train examples, or None


@dataclass(frozen=True)
class Augmentation:
    """One step of the batch's augmentation, ready to be called."""

    fn: Callable[..., Any]
    asks: tuple[str, ...]  # which of AUGMENTED it takes by name; empty where it takes all three by position
    kwargs: Mapping[str, Any]
    where: str
    base_dir: Path
    num_classes: int | None = None  # told to one that asks for it

    def __call__(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        batch = (inputs, targets, generator)
        offered = (*batch, self.num_classes)
        named = {name: value for name, value in zip(OFFERED, offered, strict=True) if name in self.asks}
        with user_code(self.where, self.base_dir):
            returned = self.fn(*(() if named else batch), **named, **self.kwargs)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise UsageError(f"{self.where} must return (inputs, targets), it returned {type(returned).__name__}")
        kept = inputs.shape[:2] if getattr(self.fn, "resizes", False) else inputs.shape
        if not all(isinstance(item, Tensor) for item in returned) or returned[0].shape[: len(kept)] != kept:
            raise UsageError(
                f"{self.where} changed inputs of shape {tuple(inputs.shape)} into {described(returned[0])}",
                "Inputs must keep their shape: val batches come without augmentation.",
            )
        if not self._are_targets(returned[1], targets):
            raise UsageError(
                f"{self.where} changed targets of shape {tuple(targets.shape)} into {described(returned[1])}",
                f"Give the targets back, or the shares of the {self.num_classes} classes, (N, C) float.",
            )
        return returned

    def _are_targets(self, value: Tensor, before: Tensor) -> bool:
        """Return whether targets are as they were before, or have become shares of the classes (mixup and the like)."""
        if value.is_floating_point() == before.is_floating_point():
            return value.shape == before.shape
        return value.is_floating_point() and value.shape == (len(before), self.num_classes)


@dataclass(frozen=True)
class Batches:
    """Batches of one split in a fixed order, which can be iterated again and again."""

    data: Data
    split: str
    batch_size: int
    indices: Tensor | None = None

    def __len__(self) -> int:
        size = self.data.size(self.split) if self.indices is None else len(self.indices)
        return -(-size // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        part = self.data.part(self.split)
        positions = part.positions(self.indices)
        for inputs, targets in part.store.stream(in_batches(positions, self.batch_size)):
            yield self.data.finish(inputs, targets, None)


@dataclass(frozen=True)
class Data:
    """The examples of a trial, in splits.

    They are train, train_eval (a fixed stratified subset of train, as large as val), val and test.
    """

    prepared: Prepared
    normaliser: Normaliser
    device_normaliser: Normaliser
    augmentations: tuple[Augmentation, ...]
    device: torch.device
    sampler: Callable[..., Tensor] | None = None

    @property
    def task(self) -> Task:
        """What a target is, and what is scored."""
        return self.prepared.task

    @property
    def num_classes(self) -> int:
        """How many outputs the targets need: classes, labels or values."""
        return self.prepared.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per class; its number where the source knows no name."""
        return self.prepared.class_names

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        return self.prepared.feature_names

    @property
    def columns(self) -> Columns | None:
        """What became of a table's columns; None of anything else."""
        return self.prepared.columns

    @property
    def input_shape(self) -> Any:
        """The shape of one example as the model sees it: (C, H, W), (F,) or the user's own.

        Of an input of several tensors a tuple or dictionary of shapes.
        """
        return self.prepared.parts["train"].store.shape

    @property
    def is_one(self) -> bool:
        """Whether an input is one tensor, of the same shape for every example."""
        store = self.prepared.parts["train"].store
        return is_one(store.shape) and not (isinstance(store, StreamStore) and store.collate is not None)

    @property
    def one_class_each(self) -> bool:
        """Whether every example has one class."""
        return self.task.noun == "class" and self.targets("train").ndim == 1

    @property
    def is_image(self) -> bool:
        return self.is_one and len(self.input_shape) == 3

    @property
    def streams(self) -> bool:
        """Whether train's examples are made each time that they are read: a user's Dataset."""
        return isinstance(self.prepared.parts["train"].store, StreamStore)

    @property
    def stochastic(self) -> bool:
        """Whether two reads of one train example differ: a user's Dataset that augments by itself."""
        return self.prepared.stochastic

    @property
    def skipped(self) -> list[Skipped]:
        return list(self.prepared.skipped)

    def part(self, split: str) -> Part:
        if split not in self.prepared.parts:
            held = ", ".join(self.prepared.parts)
            raise ValueError(f"the {split!r} split is not handed out here (there are: {held})")
        return self.prepared.parts[split]

    def size(self, split: str) -> int:
        """Return the number of examples; of test also when its examples are not handed out (0: there is none)."""
        return self.prepared.sizes.get(split, 0)

    def targets(self, split: str) -> Tensor:
        """Return the targets (CPU) in the split's fixed order; of classes int64."""
        return self.part(split).targets

    def describe(self, split: str, i: int) -> str:
        """Name example i of the split in a message: its file, its row, or its index in what the user returned."""
        part = self.part(split)
        return part.place(int(part.positions(torch.tensor([i]))[0]))

    def inputs(self, split: str, indices: Tensor | Sequence[int] | None = None) -> Any:
        """Return inputs as loaded (images: N, C, H, W), on the CPU, neither normalised nor augmented."""
        return self.part(split).inputs(_positions(indices))

    def normalise(self, batch: Any) -> Any:
        """Return a raw batch as the model sees it: float32, normalised, images channels-last."""
        if not isinstance(batch, Tensor):
            return mapped(self.normalise, batch)
        chosen = self.normaliser if batch.device.type == "cpu" else self.device_normaliser
        result = chosen(batch)
        return result.contiguous(memory_format=torch.channels_last) if result.dim() == 4 else result

    def steps_per_epoch(self, batch_size: int) -> int:
        """Return the number of train batches; a last batch of one example is dropped (batch norm cannot use it)."""
        order = self._own_order()
        full, rest = divmod(self.size("train") if order is None else len(order), batch_size)
        return full + (rest > 1 or (rest == 1 and full == 0))

    def epoch(
        self, seed: int, epoch: int, batch_size: int, augment: bool = True, rank: Rank | None = None
    ) -> Iterator[tuple[Any, Tensor]]:
        """Give the train batches of one epoch; order and augmentation follow from (seed, epoch) alone.

        `rank`: of each batch, give this process's share.
        """
        positions = self.order(seed, epoch)
        draws = None
        if augment and self.augmentations:
            draws = torch.Generator(self.device).manual_seed(derive_seed(seed, "augment", epoch))
        chosen = positions.split(batch_size)[: self.steps_per_epoch(batch_size)]
        if rank is not None:
            yield from self._shares(chosen, draws, derive_seed(seed, "loader", epoch, "rank", rank.number), rank)
            return
        for inputs, targets in self.part("train").store.stream(chosen, derive_seed(seed, "loader", epoch)):
            yield self.finish(inputs, targets, draws)

    def order(self, seed: int, epoch: int) -> Tensor:
        """Return the positions in the store of an epoch's train examples, in their order."""
        generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
        return self.part("train").positions(self._order(seed, epoch, generator))

    def _shares(
        self, batches: Sequence[Tensor], draws: torch.Generator | None, loader_seed: int, rank: Rank
    ) -> Iterator[Share]:
        """Give one process's share of each batch.

        What augments draws its numbers for a batch, so a whole one is read and augmented, as on one device.
        """
        sizes = [sizes_of(len(positions), rank.count) for positions in batches]
        own = [
            positions if size is None else positions.split(size)[rank.number]
            for positions, size in zip(batches, sizes, strict=True)
        ]
        stream = self.part("train").store.stream(own if draws is None else batches, loader_seed)
        for size, (inputs, targets) in zip(sizes, stream, strict=True):
            if draws is None:
                inputs, targets = self.finish(inputs, targets, None)
            else:
                inputs, targets = self._augmented(*self._on_device(inputs, targets), draws)
                if size is not None:
                    inputs, targets = inputs.split(size)[rank.number], targets.split(size)[rank.number]
                inputs = self.normalise(inputs)
            yield share_of(inputs, targets, size)

    def _order(self, seed: int, epoch: int, generator: torch.Generator) -> Tensor:
        """Return the places in train of an epoch's examples: shuffled, a stream's own, or as the sampler says."""
        part = self.part("train")
        own = self._own_order(derive_seed(seed, "sampler", epoch))
        if own is not None:
            return own
        if self.sampler is not None:
            weights = self.prepared.weights
            own_weights = None if weights is None else weights[part.positions(None)]
            return self.sampler(targets=part.targets, generator=generator, weights=own_weights)
        return torch.arange(len(part)) if part.in_own_order else torch.randperm(len(part), generator=generator)

    def _own_order(self, seed: int = 0) -> Tensor | None:
        """Return the places in train that the user's sampler draws; None where there is none."""
        part = self.part("train")
        draw = part.store.order if isinstance(part.store, StreamStore) else None
        if draw is None:
            return None
        with seeded(seed):
            drawn = torch.as_tensor(draw(), dtype=torch.int64)
        place = torch.full((len(part.store),), -1)
        place[part.positions(None)] = torch.arange(len(part))
        places = place[drawn]
        return places[places >= 0]

    def batches(self, split: str, batch_size: int, indices: Tensor | Sequence[int] | None = None) -> Batches:
        """Return the split's batches in fixed order, without augmentation; `indices` selects members of it."""
        self.part(split)
        return Batches(self, split, batch_size, _positions(indices))

    def mixed_batches(self, batch_size: int, seed: int) -> Batches:
        """Return train's batches without augmentation in an order drawn from the seed: for statistics of batch norm.

        In its own order, which may be that of the classes, a batch would vary less than the whole.
        """
        order = None if self.part("train").in_own_order else mixed_order(self.size("train"), batch_size, seed)
        return self.batches("train", batch_size, order)

    def finish(self, inputs: Any, targets: Tensor, draws: torch.Generator | None) -> tuple[Any, Tensor]:
        """Return a batch as read on the device, augmented where `draws` is given, and normalised."""
        inputs, targets = self._on_device(inputs, targets)
        if draws is not None:
            inputs, targets = self._augmented(inputs, targets, draws)
        return self.normalise(inputs), targets

    def _on_device(self, inputs: Any, targets: Tensor) -> tuple[Any, Tensor]:
        return mapped(lambda tensor: tensor.to(self.device), inputs), targets.to(self.device)

    def _augmented(self, inputs: Any, targets: Tensor, draws: torch.Generator) -> tuple[Any, Tensor]:
        for augmentation in self.augmentations:
            inputs, targets = augmentation(inputs, targets, draws)
        return inputs, targets


def mixed_order(size: int, batch_size: int, seed: int) -> Tensor:
    """Return the places of examples in an order drawn from the seed, without one that would be the last batch alone."""
    kept = size - 1 if size % batch_size == 1 < size else size
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:kept]


def _positions(indices: Tensor | Sequence[int] | None) -> Tensor | None:
    return None if indices is None else torch.as_tensor(indices, dtype=torch.int64).cpu()


# --- loading ------------------------------------------------------------------------------------------------------


def load_data(
    tables: Mapping[str, Any], env: TrialEnv, with_test: bool = False, on_progress: OnProgress | None = None
) -> Data:
    """Load the recipe's data, split it, and fit the normalisation on train.

    The test split is set aside first and always the same; its examples are handed out only `with_test`.
    `on_progress(share, words)` hears of decoding.

    Raises:
        UsageError, InputError, UserCodeError, EnvironmentProblem: each names the recipe's key, the file or the row.
    """
    table = DataTable.model_validate(paths_expanded(tables["data"], env.recipe_dir))
    args, built_in = _arguments(table), _is_built_in(table)
    report = on_progress or (lambda share, words: None)
    device = torch.device(env.device)
    wanted = Wanted(table, args, tables.get("loss", {}), device, with_test)
    prepared = prepare_built_in(wanted, env, report) if built_in else prepare_users(wanted, env, report)
    fitted = _fitted(table.normalize or ("standardize" if built_in else "none"), prepared)
    augmentations = tuple(
        replace(augmentation_of(item, i, env.recipe_dir), num_classes=prepared.num_classes)
        for i, item in enumerate(table.augment)
    )
    sampler = sampler_of(table.sampler, env.recipe_dir)
    data = Data(prepared, fitted, fitted.to(device), augmentations, device, sampler)
    _try_augmentation(data)
    return data


def check_source(table: DataTable, env: TrialEnv) -> None:
    """Resolve the data source and check its arguments, without loading anything.

    Raises:
        UsageError: it is unknown, or its arguments do not fit.
    """
    fn = registry.resolve("source", table.source, env.recipe_dir)
    ours = {"cache_dir": env.cache_dir, "task": table.task, "recipe_dir": env.recipe_dir}
    offered = ours if _is_built_in(table) else {}
    registry.bind(fn, offered, _arguments(table), "data")


def _arguments(table: DataTable) -> dict[str, Any]:
    return {**(table.model_extra or {}), **table.args}


def _is_built_in(table: DataTable) -> bool:
    return "." not in table.source and ":" not in table.source


def _fitted(how: Any, prepared: Prepared) -> Normaliser:
    train = prepared.parts["train"]
    if how != "none" and not is_one(train.store.shape):
        raise UsageError(
            "data.normalize: an input is several tensors, of which each would need its own",
            'Normalise in your Dataset, and set data.normalize = "none".',
        )
    key = canonical_json(how)
    if key not in prepared.fitted:
        first = train.inputs(torch.zeros(1, dtype=torch.int64))
        dtype = first.dtype if isinstance(first, Tensor) else torch.float32
        fitted = normaliser(how, train.store.shape, dtype, train.chunks)  # taken where the examples are held
        prepared.fitted[key] = fitted.to(torch.device("cpu"))
    return prepared.fitted[key]


def augmentation_of(item: str | dict[str, Any], i: int, base_dir: Path) -> Augmentation:
    """Resolve an item of `data.augment` and check its arguments."""
    table = {"name": item} if isinstance(item, str) else item
    fn = registry.resolve("augment", table["name"], base_dir)
    where = f"data.augment[{i}] {table['name']}"
    args = registry.arguments(table)
    if isinstance(fn, type):
        fn, args = _built(fn, args, where, base_dir), {}
    asks = registry.asked(fn, OFFERED)
    if {"inputs", "targets"} <= set(asks):
        bound = registry.bind(fn, dict.fromkeys(OFFERED), args, where)
        return Augmentation(fn, asks, {key: bound[key] for key in args}, where, base_dir)
    return Augmentation(fn, (), registry.bind(fn, {}, args, where, positional=3), where, base_dir)


def sampler_of(item: str | Mapping[str, Any], base_dir: Path) -> Callable[..., Tensor] | None:
    """Resolve `data.sampler` and check its arguments; None: shuffled, or in the order of a stream."""
    table = {"name": item} if isinstance(item, str) else item
    if table.get("name") == "shuffle":
        return None
    if not isinstance(table.get("name"), str):
        raise UsageError(f"data.sampler: a table needs a name (got {dict(table)!r})", 'Write { name = "...", ... }.')
    fn, args = registry.resolve("sampler", table["name"], base_dir), registry.arguments(table)
    asks = tuple(registry.bind(fn, dict.fromkeys(DRAWN_FROM), args, "data.sampler"))
    drawn = registry.Hook(fn, DRAWN_FROM, tuple(set(asks) - set(args)), "data.sampler", base_dir)

    def sampler(**offered: Any) -> Tensor:
        places = torch.as_tensor(_with(drawn, args, offered), dtype=torch.int64)
        size = len(offered["targets"])
        if places.ndim != 1 or not len(places) or int(places.min()) < 0 or int(places.max()) >= size:
            text = f"data.sampler: must return places from 0 to {size - 1} in a row (got {described(places)})"
            raise UsageError(text, "Return a tensor of indices into targets.")
        return places

    return sampler


def _with(hook: registry.Hook, args: Mapping[str, Any], offered: Mapping[str, Any]) -> Any:
    with user_code(hook.where, hook.base_dir):
        return hook.fn(**{name: offered[name] for name in hook.asks}, **args)


def _built(kind: type, args: Mapping[str, Any], where: str, base_dir: Path) -> Callable[..., Any]:
    """Build a transform that is a class; one of a library's is applied to each example by itself."""
    made = registry.call(kind, registry.bind(kind, {}, args, where), where, base_dir)
    library = kind.__module__.split(".")[0]
    return per_example(made, library) if library in PER_EXAMPLE else made


def _try_augmentation(data: Data) -> None:
    """Augment two examples, so that a wrong argument is known before anything runs."""
    if not data.augmentations:
        return
    if not data.is_one:
        raise UsageError(
            "data.augment: an input is more than one tensor of one shape", "Augment in your Dataset, and leave it out."
        )
    part = data.part("train")
    inputs, targets = part.store.read(part.positions(torch.arange(min(2, len(part)))))
    data.finish(inputs, targets, torch.Generator(data.device).manual_seed(0))
