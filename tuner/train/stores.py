"""Where examples are read from by position: arrays held decoded, or a user's Dataset that streams."""

from __future__ import annotations

import contextlib
import multiprocessing
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tuner.core.errors import InputError, TunerError, UsageError, UserCodeError, user_frames, where_in_user_code
from tuner.core.processes import die_with_parent
from tuner.parts.examples import native
from tuner.parts.normalise import TOKENS

CHUNK_VALUES = 1 << 18  # of one chunk for statistics: 2 MiB in float64, which stays in the processor's cache
READ = 256  # examples of a large read that are read at a time
STREAM_SAMPLE = 10_000  # examples of a stream that statistics are taken from, for not reading all in every process
UNREADABLE = (OSError, EOFError, UnicodeError, zipfile.BadZipFile, zlib.error, struct.error)  # the file, not the code
RESIDENT_SHARE = 0.25  # of a GPU's free memory that the decoded data may take


@dataclass(frozen=True)
class ArrayStore:
    """Examples in one array, memory-mapped or not. Images are held as (N, H, W, C), so that a batch of them is one copy
    per example and comes out channels-last.
    """

    values: Tensor
    targets: Tensor
    images: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example, as a model sees it."""
        shape = tuple(self.values.shape[1:])
        return (shape[2], shape[0], shape[1]) if self.images else shape

    def __len__(self) -> int:
        return len(self.values)

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs (images: N, C, H, W) and targets at these positions."""
        taken = self.values.view(len(self.values), -1).index_select(0, indices).view(-1, *self.values.shape[1:])
        return taken.permute(0, 3, 1, 2) if self.images else taken, self.targets.index_select(0, indices)

    def stream(self, batches: Sequence[Tensor], seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the inputs and targets of one batch of positions after the other."""
        for positions in batches:
            yield self.read(positions.to(self.values.device))

    def whole(self) -> Tensor:
        """Return all inputs without copying them."""
        return self.values.permute(0, 3, 1, 2) if self.images else self.values

    def to(self, device: torch.device) -> ArrayStore:
        """Return the store on the device, where it fits into a share of the device's free memory; else unchanged."""
        if device.type != "cuda" or self.values.nbytes > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            return self
        return ArrayStore(self.values.to(device), self.targets.to(device), self.images)


@dataclass(frozen=True)
class StreamStore:
    """A map-style Dataset (a user's, or files that are not kept decoded), read in the order that is asked for.

    `loader_workers` processes read ahead; with 0 the trial's own process reads each batch when it is due.
    """

    dataset: Any
    where: str  # e.g. "data.source my_data.py:load: train"
    base_dir: Path
    shape: tuple[int, ...]
    loader_workers: int = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets at these positions.

        Raises:
            UserCodeError: `__getitem__` raised; the index is named.
            InputError: it could not read its file; the index is named.
            UsageError: an example is no (input, target), or has another shape than the first.
        """
        return _stacked([self.example(int(i)) for i in indices])

    def stream(self, batches: Sequence[Tensor], seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the inputs and targets of one batch of positions after the other; raises as `read` does.

        Loader processes draw their random numbers from `seed` and their own number.
        """
        workers = self.loader_workers if len(batches) > 1 else 0  # a single batch is read before they have started
        loader = DataLoader(
            _Examples(self),
            batch_sampler=[positions.tolist() for positions in batches],
            num_workers=workers,
            collate_fn=_stacked_or_error,
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

    def example(self, i: int) -> tuple[Tensor, int]:
        """Read and check one example."""
        inputs, target = read_example(self.dataset, i, self.where, self.base_dir)
        if tuple(inputs.shape) != self.shape:
            raise UsageError(
                f"{self.where}[{i}] has inputs of shape {tuple(inputs.shape)}, {self.where}[0] of {self.shape}",
                "All examples need one shape: resize, crop or pad in your Dataset.",
            )
        return inputs, target


@dataclass(frozen=True)
class _Examples(Dataset):
    """The examples of a stream for torch's DataLoader; an error is handed over as a value, so that it stays whole."""

    store: StreamStore

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, i: int) -> tuple[Tensor, int] | TunerError:
        try:
            return self.store.example(i)
        except TunerError as error:
            return error


def _stacked(items: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    return torch.stack([item[0] for item in items]), torch.tensor([item[1] for item in items])


def _stacked_or_error(items: Sequence[Any]) -> Any:
    return next((item for item in items if isinstance(item, TunerError)), None) or _stacked(items)


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
    """One split: which positions of which store, with their targets (int64) in the same order.

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

    def inputs(self, chosen: Tensor | None = None) -> Tensor:
        """Return raw inputs on the CPU."""
        if chosen is None and self.indices is None and isinstance(self.store, ArrayStore):
            return self.store.whole().cpu()
        positions = self.positions(chosen)
        if isinstance(self.store, ArrayStore):
            return self.store.read(positions)[0].cpu()
        return torch.cat([inputs for inputs, _ in self.store.stream(in_batches(positions, READ))])

    def chunks(self) -> Iterator[Tensor]:
        """Give the raw inputs in order, a bounded number of values at a time; of a large stream an even sample."""
        size = max(1, CHUNK_VALUES // max(1, int(np.prod(self.store.shape))))
        positions = self.positions(None)
        if isinstance(self.store, StreamStore) and len(positions) > STREAM_SAMPLE:
            positions = positions[torch.linspace(0, len(positions) - 1, STREAM_SAMPLE).long()]
        for inputs, _ in self.store.stream(in_batches(positions, size)):
            yield inputs


def in_batches(positions: Tensor, size: int) -> Sequence[Tensor]:
    """Cut positions into batches; none where there are no positions."""
    return positions.split(size) if len(positions) else ()


def read_example(dataset: Any, i: int, where: str, base_dir: Path) -> tuple[Tensor, int]:
    """Read example i of a user's Dataset as (tensor, label); see `StreamStore.read`."""
    try:
        item = dataset[i]
    except TunerError:
        raise
    except Exception as error:
        place = where_in_user_code(error, base_dir)
        if isinstance(error, UNREADABLE):
            raise InputError(
                f"{where}[{i}] cannot be read: {type(error).__name__}: {error}\n{user_frames(error, base_dir)}",
                "Replace that example's file, or leave it out.",
            ) from error
        raise UserCodeError(
            f"{f'{place}: ' if place else ''}{where}[{i}] raised {type(error).__name__}: {error}\n"
            f"{user_frames(error, base_dir)}",
            "Mend the Dataset, or leave that example out.",
        ) from error
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise UsageError(f"{where}[{i}] must be (input, target), it is {described(item)}")
    return _as_input(item[0], f"{where}[{i}]"), label_of(item[1], f"{where}[{i}]")


def _as_input(value: Any, where: str) -> Tensor:
    if isinstance(value, Tensor):
        return plain(value)
    if type(value).__module__.startswith("PIL."):
        raise UsageError(
            f"{where}: the input is a PIL image, not a tensor", "Use torchvision.transforms.ToTensor() in your Dataset."
        )
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise UsageError(f"{where}: the input must be a tensor or an array of numbers, it is {described(value)}")
    return plain(torch.from_numpy(np.ascontiguousarray(native(array))))


def plain(values: Tensor) -> Tensor:
    """Return inputs as bytes, float32 or whole numbers; other kinds of numbers become float32, sparse ones dense."""
    values = values.detach().cpu().to_dense()
    if values.is_complex():
        raise UsageError("data.source: complex inputs are not supported", "Stack real and imaginary parts as channels.")
    return values if values.dtype in (torch.uint8, *TOKENS) else values.float()


def label_of(value: Any, where: str) -> int:
    """Return one example's target as an int; see `labels_of`."""
    return int(labels_of([value], where)[0]) if np.ndim(value) == 0 else int(labels_of(value, where, one=True)[0])


def labels_of(values: Any, where: str, one: bool = False) -> np.ndarray:
    """Return targets as int64.

    Raises:
        UsageError: "real numbers", "one-hot or multi-hot", "not numbers", for all but one integer class per example.
    """
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim > 1 or (one and array.size != 1):
        raise UsageError(
            f"{where}: the targets have shape {array.shape}, which looks one-hot or multi-hot; "
            "tuner needs one integer class per example",
            "For one-hot targets return targets.argmax(1).",
        )
    if array.dtype.kind == "f":
        raise UsageError(
            f"{where}: the targets are real numbers ({array.dtype}{_first_broken(array)}); "
            "tuner needs one integer class per example",
            "If they are classes, make them whole numbers (int64); regression is not supported.",
        )
    if array.ndim == 0:
        raise UsageError(f"{where}: the targets are a single value ({array})", "Give one integer class per example.")
    if array.dtype.kind not in "biu":
        raise UsageError(
            f"{where}: the targets are not numbers ({described(array.ravel()[0]) if array.size else array.dtype}); "
            "tuner needs one integer class per example",
            "Number the classes from 0.",
        )
    return array.astype(np.int64)


def _first_broken(array: np.ndarray) -> str:
    broken = np.flatnonzero(~(array % 1 == 0))
    return f", e.g. {array[broken[0]].item()} at {broken[0]}" if len(broken) else ""


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
