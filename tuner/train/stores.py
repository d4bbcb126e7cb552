"""Where examples are read from by position: arrays held decoded, or a user's Dataset that streams."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from tuner.core.errors import (
    InputError,
    TunerError,
    UsageError,
    UserCodeError,
    user_code,
    user_frames,
    where_in_user_code,
)
from tuner.core.processes import die_with_parent
from tuner.parts.examples import native
from tuner.parts.normalise import TOKENS
from tuner.tasks.classification import Classification
from tuner.train.nested import mapped, parted, shape_of, together, values_of

AsTarget = Callable[[Any, str], np.ndarray]  # (targets of examples, where) -> what the task makes of them

CHUNK_VALUES = 1 << 18  # of one chunk for statistics: 2 MiB in float64, which stays in the processor's cache
READ = 256  # examples of a large read that are read at a time
STREAM_SAMPLE = 10_000  # examples of a stream that statistics are taken from, for not reading all in every process
UNREADABLE = (OSError, EOFError, UnicodeError, zipfile.BadZipFile, zlib.error, struct.error)  # the file, not the code
RESIDENT_SHARE = 0.25  # of a GPU's free memory that the decoded data may take


@dataclass(frozen=True)
class ArrayStore:
    """Examples in one array, memory-mapped or not. Images are held as (N, H, W, C), so that a batch of them is one copy
    per example and comes out channels-last. `size`: the height and width that images are resized to as they are read.
    """

    values: Tensor
    targets: Tensor
    images: bool
    size: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example, as a model sees it."""
        shape = tuple(self.values.shape[1:])
        return (shape[2], *(self.size or shape[:2])) if self.images else shape

    def __len__(self) -> int:
        return len(self.values)

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs (images: N, C, H, W) and targets at these positions, where the values are held."""
        indices = indices.to(self.values.device)
        taken = self.values.view(len(self.values), -1).index_select(0, indices).view(-1, *self.values.shape[1:])
        return self._laid_out(taken), self.targets.index_select(0, indices)

    def _laid_out(self, values: Tensor) -> Tensor:
        """Return images as (N, C, H, W), in the size that is asked for; anything else as it is."""
        found = values.permute(0, 3, 1, 2) if self.images else values
        return found if self.size is None else resized(found, self.size)

    def stream(self, batches: Sequence[Tensor], seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the inputs and targets of one batch of positions after the other."""
        for positions in batches:
            yield self.read(positions)

    def whole(self) -> Tensor:
        """Return all inputs without copying them, where they are not resized."""
        return self._laid_out(self.values)

    def to(self, device: torch.device) -> ArrayStore:
        """Return the store on the device, where it fits into a share of the device's free memory; else unchanged."""
        if device.type != "cuda" or self.values.nbytes > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            return self
        return replace(self, values=self.values.to(device), targets=self.targets.to(device))


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Return images (N, C, H, W) of another height and width, bilinear with antialiasing; bytes stay bytes.

    Source: the notes on hyperparameters, the size of the input; torchvision's resize of tensors.
    """
    if tuple(images.shape[2:]) == size:
        return images
    values = functional.interpolate(images.float(), size, mode="bilinear", antialias=True)
    values = values.round().clamp(0, 255).to(torch.uint8) if images.dtype == torch.uint8 else values.to(images.dtype)
    return values.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class StreamStore:
    """A Dataset (a user's, or files that are not kept decoded), read in the order that is asked for.

    `loader_workers` processes read ahead; with 0 the trial's own process reads each batch when it is due. `collate`:
    the user's own way from a list of items to a batch; shapes may then differ. `as_target`: the task's reading.
    `order`: the positions of an epoch where the user's sampler gives them.
    """

    dataset: Any
    where: str  # e.g. "data.source my_data.py:load: train"
    base_dir: Path
    shape: Any
    loader_workers: int = 0
    collate: Callable[[list[Any]], Any] | None = None
    as_target: AsTarget = Classification().as_targets
    order: Callable[[], Sequence[int]] | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, indices: Tensor) -> tuple[Any, Tensor]:
        """Return the inputs and targets at these positions.

        Raises:
            UserCodeError: `__getitem__` or `collate` raised; the index is named.
            InputError: it could not read its file; the index is named.
            UsageError: an example is no (input, target), or has another shape than the first.
        """
        return self.batch([self.item(int(i)) for i in indices])

    def stream(self, batches: Sequence[Tensor], seed: int = 0) -> Iterator[tuple[Any, Tensor]]:
        """Give the inputs and targets of one batch of positions after the other; raises as `read` does.

        Loader processes draw their random numbers from `seed` and their own number.
        """
        workers = self.loader_workers if len(batches) > 1 else 0  # a single batch is read before they have started
        loader = DataLoader(
            _Examples(self),
            batch_sampler=[positions.tolist() for positions in batches],
            num_workers=workers,
            collate_fn=_Batched(self),
            worker_init_fn=_die_with_parent,
            generator=torch.Generator().manual_seed(seed),
            multiprocessing_context="fork" if workers else None,
        )
        with _may_have_children():
            batches_read = iter(loader)
        for read in batches_read:
            if isinstance(read, TunerError):
                raise read
            yield read

    def to(self, device: torch.device) -> StreamStore:
        return self

    def item(self, i: int) -> Any:
        """Read one item: (inputs, target), checked; as the Dataset gives it where the user's `collate` takes it."""
        if self.collate is not None:
            return read_item(self.dataset, i, self.where, self.base_dir)
        inputs, target = read_example(self.dataset, i, self.where, self.base_dir)
        if shape_of(inputs) != self.shape:
            raise UsageError(
                f"{self.where}[{i}] has inputs of shape {shape_of(inputs)}, {self.where}[0] of {self.shape}",
                "All examples need one shape: resize, crop or pad in your Dataset, or pad each batch in a function "
                'of yours: data.collate = "file.py:name".',
            )
        return inputs, self.as_target([target], f"{self.where}[{i}]")[0]

    def batch(self, items: list[Any]) -> tuple[Any, Tensor]:
        """Make a batch of items."""
        if self.collate is None:
            return together(torch.stack, [item[0] for item in items]), _targets_of([item[1] for item in items])
        inputs, targets = collated(self.collate, items, self.where, self.base_dir)
        return inputs, torch.from_numpy(np.asarray(self.as_target(targets, f"{self.where}: data.collate")))

    def example(self, i: int) -> tuple[Any, np.ndarray]:
        """Read and check one example, its target as the task reads it."""
        return self.made(self.item(i))

    def examples(self) -> Iterator[tuple[Any, np.ndarray]]:
        """Read every example in order."""
        return (self.example(i) for i in range(len(self)))

    def made(self, item: Any) -> tuple[Any, np.ndarray]:
        """Return the inputs and the target of an item, which `collate` makes where the user has one."""
        if self.collate is None:
            return item[0], item[1]
        inputs, targets = self.batch([item])
        return mapped(lambda tensor: tensor[0], inputs), targets[0].numpy()

    def first(self) -> Any:
        """Return the inputs of the first example, whose shape is not known yet."""
        if self.collate is None:
            return read_example(self.dataset, 0, self.where, self.base_dir)[0]
        return self.example(0)[0]


@dataclass(frozen=True)
class SequentialStore(StreamStore):
    """An IterableDataset: examples come in its own order, and a read runs through it to the last one asked for."""

    def read(self, indices: Tensor) -> tuple[Any, Tensor]:
        order = indices.argsort()
        items = list(self._items(indices[order].tolist()))
        return self.batch([items[place] for place in order.argsort().tolist()])

    def stream(self, batches: Sequence[Tensor], seed: int = 0) -> Iterator[tuple[Any, Tensor]]:
        """Give batches in one pass where their positions only rise, else in a pass for each."""
        wanted = [int(i) for positions in batches for i in positions]
        if wanted != sorted(wanted):
            yield from map(self.read, batches)
            return
        items = self._items(wanted)
        for positions in batches:
            yield self.batch([next(items) for _ in range(len(positions))])

    def item(self, i: int) -> Any:
        return next(self._items([i]))

    def examples(self) -> Iterator[tuple[Any, np.ndarray]]:
        return (self.made(item) for item in self._items(range(len(self))))

    def first(self) -> Any:
        return next(self.raw([0]))[0]

    def raw(self, wanted: Sequence[int]) -> Iterator[tuple[Any, Any]]:
        """Give inputs and targets at rising positions, as they are given."""
        for item in self._given(wanted):
            if self.collate is None:
                yield as_example(item, self.where)
            else:
                inputs, targets = collated(self.collate, [item], self.where, self.base_dir)
                yield mapped(lambda tensor: tensor[0], inputs), targets[0]

    def _items(self, wanted: Sequence[int]) -> Iterator[Any]:
        for i, item in zip(wanted, self._given(wanted), strict=False):
            yield item if self.collate is not None else self._checked(item, i)

    def _given(self, wanted: Sequence[int]) -> Iterator[Any]:
        """Give the items at rising positions."""
        last = wanted[-1] if wanted else -1
        kept = set(wanted)
        for i, item in enumerate(_numbered(self.dataset, self.where, self.base_dir)):
            if i in kept:
                yield item
            if i >= last:
                return
        raise UsageError(
            f"{self.where}: the stream ends before example {last}, its length says {len(self)}",
            "State the length that one pass has: __len__, or .with_length(n) of a WebDataset.",
        )

    def _checked(self, item: Any, i: int) -> tuple[Any, np.ndarray]:
        inputs, target = as_example(item, f"{self.where}[{i}]")
        if shape_of(inputs) != self.shape:
            raise UsageError(f"{self.where}[{i}] has inputs of shape {shape_of(inputs)}, [0] of {self.shape}")
        return inputs, self.as_target([target], f"{self.where}[{i}]")[0]


def _numbered(dataset: Any, where: str, base_dir: Path) -> Iterator[Any]:
    """Run through a stream; what it raises is its own code's."""
    stream = iter(dataset)
    for i in itertools.count():
        try:
            item = next(stream)
        except StopIteration:
            return
        except Exception as error:
            raise _read_error(error, f"{where}[{i}]", base_dir) from error
        yield item


@dataclass(frozen=True)
class _Examples(Dataset):
    """The items of a stream for torch's DataLoader; an error is handed over as a value, so that it stays whole."""

    store: StreamStore

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, i: int) -> Any:
        try:
            return self.store.item(i)
        except TunerError as error:
            return error


@dataclass(frozen=True)
class _Batched:
    """Makes batches of a stream's items in a loader process; an error among them takes the batch's place."""

    store: StreamStore

    def __call__(self, items: list[Any]) -> Any:
        if (error := next((item for item in items if isinstance(item, TunerError)), None)) is not None:
            return error
        try:
            return self.store.batch(items)
        except TunerError as error:
            return error


def _targets_of(values: Sequence[Any]) -> Tensor:
    return torch.from_numpy(np.stack([np.asarray(value) for value in values]))


def collated(collate: Callable[[list[Any]], Any], items: list[Any], where: str, base_dir: Path) -> tuple[Any, Any]:
    """Return inputs and targets of what the user's `collate` makes of items.

    Raises:
        UserCodeError: it raised.
        UsageError: it must return (inputs, targets).
    """
    with user_code(f"{where}: data.collate", base_dir):
        made = collate(items)
    pair = parted(made)
    if pair is None:
        raise UsageError(
            f"{where}: data.collate must return (inputs, targets), it returned {described(made)}",
            'Return a pair, or a dictionary with the targets under "labels".',
        )
    return _as_input(pair[0], f"{where}: data.collate"), pair[1]


@contextlib.contextmanager
def _may_have_children() -> Iterator[None]:
    """Let a worker of ours, which is a daemon, start loader processes; they die with it (`_die_with_parent`)."""
    config = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    before = config.get("daemon")
    config["daemon"] = False
    try:
        yield
    finally:
        config["daemon"] = before


def _die_with_parent(number: int) -> None:
    die_with_parent()


Store = ArrayStore | StreamStore


@dataclass(frozen=True)
class Part:
    """One split: which positions of which store, with their targets, as the task reads them, in the same order.

    `indices` is None when the split is the whole store. `place(position in the store)` names an example.
    """

    store: Store
    indices: Tensor | None
    targets: Tensor
    place: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.targets)

    def positions(self, chosen: Tensor | None) -> Tensor:
        """Return the store's positions of these members of the split (None: of all)."""
        if self.indices is None:
            return torch.arange(len(self.targets)) if chosen is None else chosen
        return self.indices if chosen is None else self.indices.index_select(0, chosen)

    @property
    def in_own_order(self) -> bool:
        """Return whether the examples come in the order of a stream, which cannot be shuffled here."""
        return isinstance(self.store, SequentialStore)

    def inputs(self, chosen: Tensor | None = None) -> Any:
        """Return raw inputs on the CPU."""
        if chosen is None and self.indices is None and isinstance(self.store, ArrayStore):
            return self.store.whole().cpu()
        positions = self.positions(chosen)
        if isinstance(self.store, ArrayStore):
            return self.store.read(positions)[0].cpu()
        return together(torch.cat, [inputs for inputs, _ in self.store.stream(in_batches(positions, READ))])

    def chunks(self) -> Iterator[Tensor]:
        """Give the raw inputs in order, a bounded number of values at a time; of a large stream an even sample."""
        size = max(1, CHUNK_VALUES // max(1, values_of(self.store.shape)))
        positions = self.positions(None)
        if isinstance(self.store, StreamStore) and len(positions) > STREAM_SAMPLE:
            positions = positions[torch.linspace(0, len(positions) - 1, STREAM_SAMPLE).long()]
        for inputs, _ in self.store.stream(in_batches(positions, size)):
            yield inputs


def in_batches(positions: Tensor, size: int) -> Sequence[Tensor]:
    """Cut positions into batches; none where there are no positions."""
    return positions.split(size) if len(positions) else ()


def read_item(dataset: Any, i: int, where: str, base_dir: Path) -> Any:
    """Return item i of a user's Dataset as it is; see `StreamStore.read`."""
    try:
        return dataset[i]
    except TunerError:
        raise
    except Exception as error:
        raise _read_error(error, f"{where}[{i}]", base_dir) from error


def _read_error(error: Exception, what: str, base_dir: Path) -> TunerError:
    place = where_in_user_code(error, base_dir)
    if isinstance(error, UNREADABLE):
        return InputError(
            f"{what} cannot be read: {type(error).__name__}: {error}\n{user_frames(error, base_dir)}",
            "Replace that example's file, or leave it out.",
        )
    return UserCodeError(
        f"{f'{place}: ' if place else ''}{what} raised {type(error).__name__}: {error}\n{user_frames(error, base_dir)}",
        "Fix the Dataset, or leave that example out.",
    )


def read_example(dataset: Any, i: int, where: str, base_dir: Path) -> tuple[Any, Any]:
    """Read example i of a user's Dataset as (tensor or tensors, target); see `StreamStore.read`."""
    return as_example(read_item(dataset, i, where, base_dir), f"{where}[{i}]")


def as_example(item: Any, where: str) -> tuple[Any, Any]:
    """Return (inputs, target) of an item of a Dataset.

    Raises:
        UsageError: "must be (input, target)".
    """
    pair = parted(item)
    if pair is None:
        raise UsageError(
            f"{where} must be (input, target), it is {described(item)}",
            'Return two things; several inputs as ((a, b), target), or a dictionary with the target under "label".',
        )
    target = pair[1].detach().cpu().numpy() if isinstance(pair[1], Tensor) else np.asarray(pair[1])
    return _as_input(pair[0], where), target[0] if target.shape == (1,) else target


def _as_input(value: Any, where: str) -> Any:
    if isinstance(value, Tensor):
        return plain(value)
    if isinstance(value, dict) or _holds_arrays(value):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        made = {key: _as_input(part, f"{where}: input {key!r}") for key, part in parts}
        return made if isinstance(value, dict) else tuple(made.values())
    if type(value).__module__.startswith("PIL."):
        raise UsageError(
            f"{where}: the input is a PIL image, not a tensor", "Use torchvision.transforms.ToTensor() in your Dataset."
        )
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise UsageError(f"{where}: the input must be a tensor or an array of numbers, it is {described(value)}")
    return plain(torch.from_numpy(np.ascontiguousarray(native(array))))


def _holds_arrays(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and any(isinstance(part, (Tensor, np.ndarray)) for part in value)


def plain(values: Tensor) -> Tensor:
    """Return inputs as bytes, float32 or whole numbers; other kinds of numbers become float32, sparse ones dense."""
    values = values.detach().cpu().to_dense()
    if values.is_complex():
        raise UsageError("data.source: complex inputs are not supported", "Stack real and imaginary parts as channels.")
    return values if values.dtype in (torch.uint8, *TOKENS) else values.float()


def as_array(values: Any) -> np.ndarray:
    """Return targets as an array on the CPU."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def described(value: Any) -> str:
    """Say in a few words what a value is, for a message."""
    if isinstance(value, (Tensor, np.ndarray)):
        return f"an array of shape {tuple(value.shape)}, {value.dtype}"
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return f"a {type(value).__name__} of {len(value)}"
    if value is None:
        return "None"
    text = repr(value)
    return f"{type(value).__name__} {text}" if len(text) < 60 else f"a {type(value).__name__}"
