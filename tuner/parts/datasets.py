"""The built-in data sources: one public function each, that returns a Loaded. Adding one is adding a function.

`cache_dir` and `recipe_dir` are passed by tuner; everything else is an argument of the recipe's `[data]` table.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import math
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tuner.core.errors import EnvironmentProblem, InputError, TunerError, UsageError
from tuner.core.packages import version_of
from tuner.parts import idx_files
from tuner.parts.columns import check_fill
from tuner.parts.examples import Allocate, Loaded, OnProgress, Split, Stored, native, numbered
from tuner.parts.image_files import ClassFolders, decode, decode_all, find_splits
from tuner.parts.tables import Asked, read_table
from tuner.recipe.registry import arguments, bind, resolve

UNPACKED_BYTES = 4 << 20  # inputs of an archive that each trial unpacks itself: a few ms
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
    castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
    elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
    man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
    pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
    skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
    tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""


def digits() -> Loaded:
    """Give scikit-learn's bundled handwritten digits: 1,797 grey images of 8x8, ten classes, no test split.

    Their 17 grey levels are spread over 0..255, so that they are held like every other image.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI 1998.
    """
    key = {"source": "digits", "scikit-learn": version_of("scikit-learn")}

    @functools.cache
    def bunch() -> Any:
        from sklearn.datasets import load_digits

        return load_digits()

    def images(allocate: Allocate, on_progress: OnProgress) -> None:
        pixels = np.rint(bunch().images * (255 / 16)).astype(np.uint8)[..., None]
        allocate(pixels.shape, np.uint8)[:] = pixels

    def labels(allocate: Allocate, on_progress: OnProgress) -> None:
        allocate(bunch().target.shape, np.int64)[:] = bunch().target

    train = Split(
        Stored("digits", {**key, "what": "inputs"}, images),
        Stored("digits-labels", {**key, "what": "targets"}, labels),
        numbered("digits"),
    )
    return Loaded(train, images=True, class_names=tuple("0123456789"))


def mnist(cache_dir: Path, root: str | None = None, download: bool = True) -> Loaded:
    """Give MNIST: 60,000 + 10,000 handwritten digits, grey, 28x28, with its own test split.

    Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition, 1998.
    """
    return _torchvision("MNIST", "MNIST/raw", tuple("0123456789"), cache_dir, root, download)


def fashion_mnist(cache_dir: Path, root: str | None = None, download: bool = True) -> Loaded:
    """Give Fashion-MNIST: 60,000 + 10,000 pieces of clothing, grey, 28x28, with its own test split.

    Source: H. Xiao, K. Rasul, R. Vollgraf, arXiv:1708.07747, 2017.
    """
    return _torchvision("FashionMNIST", "FashionMNIST/raw", CLOTHES, cache_dir, root, download)


def cifar10(cache_dir: Path, root: str | None = None, download: bool = True) -> Loaded:
    """Give CIFAR-10: 50,000 + 10,000 colour images of 32x32 in ten classes, with its own test split.

    Source: A. Krizhevsky, Learning multiple layers of features from tiny images, 2009.
    """
    return _torchvision("CIFAR10", "cifar-10-batches-py", CIFAR10, cache_dir, root, download)


def cifar100(cache_dir: Path, root: str | None = None, download: bool = True) -> Loaded:
    """Give CIFAR-100: 50,000 + 10,000 colour images of 32x32 in a hundred classes, with its own test split.

    Source: A. Krizhevsky, Learning multiple layers of features from tiny images, 2009.
    """
    return _torchvision("CIFAR100", "cifar-100-python", tuple(CIFAR100.split()), cache_dir, root, download)


def image_folder(root: str, image_size: int | Sequence[int] | None = None, channels: int = 3) -> Loaded:
    """Give the images of `root/{train,val,test}/<class>/*` or `root/<class>/*`.

    `image_size` (one number, or height and width): other images are cut in their middle to its shape and resized.
    `channels`: 3 (RGB) or 1 (grey). Classes are numbered by their sorted names.
    """
    size = _image_size(image_size)
    if channels not in (1, 3):
        raise UsageError(f"data.channels: must be 1 (grey) or 3 (RGB) (got {channels!r})")
    if not isinstance(root, str) or not root:
        raise UsageError(f"data.root: must be the path of a folder (got {root!r})")
    found = find_splits(Path(root).expanduser())
    splits = {name: _decoded(name, split, size, channels) for name, split in found.items()}
    folders = {split.root for split in found.values()} | {
        split.root / name for split in found.values() for name in split.class_names
    }
    return Loaded(
        splits["train"],
        splits.get("val"),
        splits.get("test"),
        images=True,
        class_names=found["train"].class_names,
        watch=(Path(root).expanduser(), *sorted(folders)),
    )


def table(
    path: str,
    target: str,
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
    separator: str = ",",
    fill: str | float | None = None,
    task: str | None = None,
    ranges: Mapping[str, str | Mapping[str, Any]] | None = None,
    weights: str | None = None,
    recipe_dir: Path = Path(),
) -> Loaded:
    """Give the rows of a CSV or Parquet file: numeric columns as they are, text columns one-hot, `target` as the class.

    A target with fractions is a quantity (as is any number with `task = "regression"`, which tuner passes on).
    `categorical`: columns of numbers that are codes, not quantities. `drop`: columns that are no inputs. `fill`: what
    missing numbers become: "median" or "most_frequent" of the train split, or a number; a column of 0 and 1 says which
    were missing. Without it they stay NaN, and the data scan names them. A missing category is a category of its own.
    `ranges`: columns whose numbers are brought into a range first: { income = "log", age = { name = "tanh", scale = 50
    } }. `weights`: a column, no input, that says how often a row is drawn (`data.sampler = "weighted"`).
    """
    file = Path(path).expanduser()
    if not isinstance(separator, str) or not separator:
        raise UsageError(f"data.separator: must be a text such as ',' or ';' (got {separator!r})")
    check_fill(fill)
    read = read_table(file, Asked(target, categorical, drop, separator, task, _ranges(ranges, recipe_dir), weights))
    return Loaded(
        Split(read.inputs, read.targets, read.place),
        class_names=read.class_names,
        feature_names=read.feature_names,
        watch=(file,),
        columns=replace(read.columns, fill=fill),
        weights=read.weights,
    )


def _ranges(asked: Any, recipe_dir: Path) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return what brings each named column's numbers into a range.

    Raises:
        UsageError: "must name a range for each column", an unknown range, arguments that do not fit.
    """
    if asked is not None and not isinstance(asked, Mapping):
        text = f"data.ranges: must name a range for each column (got {asked!r})"
        raise UsageError(text, 'Such as ranges = { income = "log" }.')
    found: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
    for column, item in (asked or {}).items():
        table = {"name": item} if isinstance(item, str) else item
        where = f"data.ranges.{column}"
        if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
            raise UsageError(f"{where}: must be a name, or a table with one (got {item!r})", 'Such as "log".')
        fn = resolve("range", table["name"], recipe_dir)
        args = arguments(table)
        bind(fn, {"values": None}, args, where)
        fn(np.zeros(0), **args)
        found[column] = functools.partial(fn, **args)
    return found


def npz(path: str) -> Loaded:
    """Give the arrays of a NumPy archive: `inputs` and `targets` (or `x`, `y`), and the same with _train, _val, _test.

    Inputs of four dimensions are images, with their channels (1, 3 or 4) second or last; bytes of three dimensions are
    grey images. Targets may be whole numbers or texts.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"data.path: no such file: {file}", "Give the path of an .npz file (numpy.savez).")
    with _archive(file) as archive:
        members = {name: _member(archive, name) for name in archive.files}
        found = {name: _npz_split(members, name) for name in ("train", "val", "test")}
        if found["train"] is None:
            held = ", ".join(sorted(members)) or "nothing"
            raise UsageError(f"data.path: {file} has no inputs and targets (it holds: {held})", "Name them x and y.")
        splits = {name: (pair[0], native(archive[pair[1].name])) for name, pair in found.items() if pair is not None}
    for name, pair in splits.items():
        _check_arrays(f"{file}: {name}", *pair)
    names = None
    if splits["train"][1].dtype.kind in "US":
        known = sorted({str(label) for _, labels in splits.values() for label in labels.ravel()})
        names = tuple(known)
        index = {name: i for i, name in enumerate(known)}
        splits = {k: (x, np.array([index[str(label)] for label in y.ravel()])) for k, (x, y) in splits.items()}
    values = {k: Split(_inputs(file, x), y, numbered(f"{file.name} {k}")) for k, (x, y) in splits.items()}
    first = splits["train"][0]
    images = len(first.shape) == 4 or _is_grey(first)
    return Loaded(values["train"], values.get("val"), values.get("test"), images, names, watch=(file,))


@dataclass(frozen=True)
class _Member:
    """An array of an archive that has not been read yet."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@contextlib.contextmanager
def _archive(file: Path) -> Iterator[Any]:
    """Open an .npz archive.

    Raises:
        InputError: "not a readable .npz archive", whether it shows now or when an array is read.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            yield archive
    except TunerError:
        raise
    except (OSError, ValueError, AttributeError, KeyError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        hint = "Save plain arrays of numbers or texts with numpy.savez."
        raise InputError(f"{file}: not a readable .npz archive ({error})", hint) from None


def _member(archive: Any, name: str) -> _Member:
    """Read what an array is, and not the array."""
    with archive.zip.open(f"{name}.npy") as content:
        version = np.lib.format.read_magic(content)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(content)
    if dtype.hasobject:
        raise ValueError(f"{name} is an array of objects, which are pickles")
    return _Member(name, shape, dtype)


def _inputs(file: Path, member: _Member) -> np.ndarray | Stored:
    """Return the inputs of a split; large ones are kept as they are trained with, so that no trial unpacks them."""

    def read() -> np.ndarray:
        with _archive(file) as archive:
            return _channels_last(native(archive[member.name]))

    def make(allocate: Allocate, on_progress: OnProgress) -> None:
        values = read()
        allocate(values.shape, values.dtype)[:] = values

    if math.prod(member.shape) * member.dtype.itemsize < UNPACKED_BYTES:
        return read()
    stat = file.stat()
    key = {"source": "npz", "root": str(file.resolve()), "array": member.name, "bytes": stat.st_size}
    return Stored(f"npz-{member.name}", {**key, "changed": stat.st_mtime_ns}, make)


def _is_grey(inputs: _Member | np.ndarray) -> bool:
    return len(inputs.shape) == 3 and inputs.dtype == np.uint8


def _check_arrays(where: str, inputs: _Member, targets: np.ndarray) -> None:
    """Refuse arrays that are no examples with one target each."""
    if len(inputs.shape) < 2:
        hint = "One row per example: inputs.reshape(-1, 1) for a single feature."
        raise InputError(f"{where}: the inputs have shape {inputs.shape}, not (examples, ...)", hint)
    if inputs.dtype.kind not in "biuf":
        raise InputError(f"{where}: the inputs must be numbers, they are {inputs.dtype}", "Encode them as numbers.")
    if targets.ndim == 0 or inputs.shape[0] != len(targets):
        found = "a single target" if targets.ndim == 0 else f"{len(targets)} targets"
        raise InputError(f"{where}: {inputs.shape[0]} inputs but {found}", "Each input needs one target.")
    if not inputs.shape[0]:
        raise InputError(f"{where}: no examples", "Save at least a few examples per class.")


def _npz_split(arrays: Mapping[str, _Member], split: str) -> tuple[_Member, _Member] | None:
    pairs = [("inputs", "targets"), ("x", "y")]
    if split != "train":
        pairs = []
    for x, y in (("inputs", "targets"), ("x", "y")):
        pairs += [(f"{x}_{split}", f"{y}_{split}"), (f"{split}_{x}", f"{split}_{y}")]
    for x, y in pairs:
        if x in arrays and y in arrays:
            return arrays[x], arrays[y]
    return None


def _channels_last(inputs: np.ndarray) -> np.ndarray:
    if _is_grey(inputs):
        return inputs[..., None]
    if inputs.ndim != 4 or (inputs.shape[-1] in (1, 3, 4) and inputs.shape[1] not in (1, 3, 4)):
        return inputs
    return np.ascontiguousarray(inputs.transpose(0, 2, 3, 1))


def _image_size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    pair = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, (list, tuple)) else ()
    if len(pair) != 2 or not all(isinstance(item, int) and item > 0 and item is not True for item in pair):
        raise UsageError(f"data.image_size: must be a whole number above 0, or [height, width] (got {value!r})")
    return pair[0], pair[1]


def _decoded(name: str, found: ClassFolders, size: tuple[int, int] | None, channels: int) -> Split:
    """Describe a split of an image folder as an array that is decoded when the cache does not hold it."""
    key = {
        "source": "image_folder",
        "root": str(found.root.resolve()),
        "files": [[os.path.basename(path), *stamp] for path, stamp in zip(found.paths, found.stamps, strict=True)],
        "labels": list(found.labels),
        "image_size": size,
        "channels": channels,
        "pillow": version_of("pillow"),
    }

    def make(allocate: Allocate, on_progress: OnProgress) -> None:
        decode_all(found.paths, size, channels, allocate, on_progress)

    def read(i: int) -> np.ndarray:
        return decode(found.paths[i], size, channels)

    stored = Stored(f"image_folder-{name}", key, make, read)
    return Split(stored, np.array(found.labels, dtype=np.int64), found.paths.__getitem__)


def _torchvision(
    name: str, folder: str, class_names: tuple[str, ...], cache_dir: Path, root: str | None, download: bool
) -> Loaded:
    """Give a data set of torchvision, downloaded if need be and kept decoded, so that torchvision loads once."""
    base = Path(root).expanduser() if root else cache_dir / "downloads"
    packed = folder.endswith("/raw") and idx_files.has_them(base)
    raw = base if packed else base / folder
    if not any(raw.glob("*")):
        _construct(name, base, folder, True, download)
    files = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in sorted(raw.glob("*"))]

    @functools.cache
    def dataset(train: bool) -> tuple[Any, Any]:
        if packed:
            return idx_files.read_pair(base, "train" if train else "t10k")
        found = _construct(name, base, folder, train, download)
        return found.data, found.targets

    def split(train: bool) -> Split:
        word = "train" if train else "test"
        key = {"source": name, "root": str(raw.resolve()), "files": files, "split": word}

        def images(allocate: Allocate, on_progress: OnProgress) -> None:
            pixels = np.asarray(dataset(train)[0])
            pixels = pixels[..., None] if pixels.ndim == 3 else pixels
            allocate(pixels.shape, np.uint8)[:] = pixels

        def labels(allocate: Allocate, on_progress: OnProgress) -> None:
            values = np.asarray(dataset(train)[1])
            allocate(values.shape, np.int64)[:] = values

        return Split(
            Stored(f"{name}-{word}", {**key, "what": "inputs"}, images),
            Stored(f"{name}-{word}-labels", {**key, "what": "targets"}, labels),
            numbered(f"{name} {word}"),
        )

    return Loaded(split(True), None, split(False), True, class_names, watch=(raw,))


def _construct(name: str, base: Path, folder: str, train: bool, download: bool) -> Any:
    from torchvision import datasets

    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is the report's
            return getattr(datasets, name)(str(base), train=train, download=download)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise EnvironmentProblem(f"{base}: disk full while downloading {name}", "Free some space.") from None
        tried = "could not be downloaded" if download else "is not there, and data.download is false"
        raise InputError(
            f"{name}: {tried} ({type(error).__name__}: {' '.join(str(error).split()) or 'no reason given'})",
            f"Put torchvision's {name} files into {base / folder}, or set data.root to the folder above {folder}, "
            "or to one that holds the idx files themselves.",
        ) from None
