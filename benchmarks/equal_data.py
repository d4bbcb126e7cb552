"""The data of the part `equal_time`, as .npz files that every side reads: train, val and an untouched test split.

Inputs are float32, standardised by the train split (images per channel), so that no side has a say in that.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SHARES = {"train": 0.8, "val": 0.2}  # of what is not the test split


def digits(root: Path) -> Any:
    """Return scikit-learn's digits: 1,797 images of 8x8; a fifth is the test split."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return found.images[:, None].astype(np.float32), found.target, len(found.target) // 5


def fashion(root: Path) -> Any:
    """Return Fashion-MNIST: 6,000 train images and the 10,000 test images (Debian's dataset-fashion-mnist)."""
    x, y = (_idx(root / f"train-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1"))
    tx, ty = (_idx(root / f"t10k-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1"))
    x, y = np.concatenate([x[:6_000], tx]), np.concatenate([y[:6_000], ty])
    return x[:, None].astype(np.float32), y, len(ty)


def letters(root: Path) -> Any:
    """Return LetterRecognition: 20,000 letters by 16 numbers, 4,000 of them test (mlbench, Debian's r-cran-mlbench)."""
    import pyreadr

    table = pyreadr.read_r(str(root / "LetterRecognition.rda"))["LetterRecognition"]
    names = sorted(table["lettr"].astype(str).unique())
    y = table["lettr"].astype(str).map({name: i for i, name in enumerate(names)}).to_numpy()
    return table.drop(columns="lettr").to_numpy(np.float32), y, 4_000


def cifar10(root: Path) -> Any:
    """Return 5,000 images of CIFAR-10's train folder, and 5,000 others as the test split."""
    from PIL import Image

    inputs, targets = [], []
    for split in (slice(0, 500), slice(500, 1000)):
        for label, folder in enumerate(sorted(entry for entry in (root / "train").iterdir() if entry.is_dir())):
            for file in sorted(folder.iterdir())[split]:
                with Image.open(file) as image:
                    inputs.append(np.asarray(image.convert("RGB"), np.float32).transpose(2, 0, 1))
                targets.append(label)
    return np.stack(inputs), np.array(targets), 5_000


# set -> (how it is read, its folder in $TUNER_DATA; None: bundled, a file that must be there)
SETS: dict[str, tuple[Callable[[Path], Any], str | None, str]] = {
    "digits": (digits, None, ""),
    "letters": (letters, "letters", "LetterRecognition.rda"),
    "fashion": (fashion, "fashion-mnist", "train-images-idx3-ubyte.gz"),
    "cifar10": (cifar10, "cifar10", "train"),
}


def lacking(name: str) -> str | None:
    """Return the path that a set lacks, or None where it can be read."""
    _, folder, file = SETS[name]
    if folder is None:
        return None
    path = Path(os.environ.get("TUNER_DATA", "data"), folder, file)
    return None if path.exists() else str(path)


def make(name: str, work: Path, seed: int) -> Path:
    """Write a set's .npz, shuffled by the seed; the test split is the same for every seed."""
    path = work / f"{name}-{seed}.npz"
    if path.exists():
        return path
    read, folder, _ = SETS[name]
    x, y, tests = read(Path(os.environ.get("TUNER_DATA", "data"), folder or ""))
    if name in ("digits", "letters"):  # in file order: drawn once, whatever the seed
        order = np.random.default_rng(0).permutation(len(y))
        x, y = x[order], y[order]
    rest = np.random.default_rng(seed).permutation(len(y) - tests)
    cut = round(SHARES["train"] * len(rest))
    places = {"train": rest[:cut], "val": rest[cut:], "test": np.arange(len(y) - tests, len(y))}
    axes = 0 if x.ndim == 2 else (0, 2, 3)
    mean, std = (f(x[places["train"]], axis=axes, keepdims=True) for f in (np.mean, np.std))
    x = (x - mean) / np.maximum(std, 1e-6)
    arrays = {f"x_{split}": x[at].astype(np.float32) for split, at in places.items()}
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, **arrays, **{f"y_{split}": y[at].astype(np.int64) for split, at in places.items()})
    temporary.rename(path)
    return path


def _idx(path: Path) -> Any:
    """Read an array of MNIST's file format."""
    raw = gzip.decompress(path.read_bytes())
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)
