"""The idx files of MNIST and Fashion-MNIST, packed or not, such as Debian's dataset-fashion-mnist installs."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from tuner.core.errors import InputError

BYTES = 0x08  # the kind of number that a file of bytes names
FILES = {"images": "images-idx3-ubyte", "labels": "labels-idx1-ubyte"}


def has_them(folder: Path) -> bool:
    """Return whether the train images lie in the folder itself."""
    return _found(folder, f"train-{FILES['images']}") is not None


def read_pair(folder: Path, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, H, W) and labels (N,) as bytes; `prefix`: train or t10k.

    Raises:
        InputError: a file is missing, cut off, or no idx file of bytes; images and labels differ in number.
    """
    images, labels = (_read(folder, f"{prefix}-{name}") for name in FILES.values())
    if len(images) != len(labels):
        text = f"{folder}: {prefix} has {len(images)} images and {len(labels)} labels"
        raise InputError(text, "Take all four files of one data set.")
    return images, labels


def _found(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read(folder: Path, name: str) -> np.ndarray:
    path = _found(folder, name)
    if path is None:
        raise InputError(f"data.root: {folder} has no {name} (or {name}.gz)", "Put all four idx files there.")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not readable ({error})", "Take the file again.") from None
    begin = 4 + 4 * content[3] if len(content) > 4 else 0
    sizes = [int.from_bytes(content[start : start + 4], "big") for start in range(4, begin, 4)]
    if content[:3] != bytes([0, 0, BYTES]) or len(content) - begin != math.prod(sizes):
        raise InputError(f"{path}: not an idx file of bytes, or cut off", "Take the file again.")
    return np.frombuffer(content, np.uint8, offset=begin).reshape(sizes)
