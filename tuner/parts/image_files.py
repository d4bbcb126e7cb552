"""Image files in class folders: found, checked and decoded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tuner.core.errors import InputError
from tuner.parts.examples import Allocate, OnProgress

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pbm", ".tif", ".tiff")
MISNAMED = {"valid": "val", "validation": "val", "dev": "val", "training": "train", "testing": "test", "tests": "test"}
LAYOUT = "Put images into root/<class>/* or root/{train,val,test}/<class>/*, one folder per class."
CHUNK = 128


@dataclass(frozen=True)
class ClassFolders:
    """One split: the class names, sorted, and per image its path, its label and (size, modification time)."""

    root: Path
    class_names: tuple[str, ...]
    paths: tuple[str, ...]
    labels: tuple[int, ...]
    stamps: tuple[tuple[int, int], ...]


def find_splits(root: Path) -> dict[str, ClassFolders]:
    """List the images of every split under `root`; without split folders all of them are `train`.

    Hidden files and files that are no images by their extension are passed over.

    Raises:
        InputError: no such folder; split folders without `train`, or misnamed; no class folder; an empty one;
            one class only; classes that differ between splits.
    """
    if not root.is_dir():
        raise InputError(f"data.root: no such folder: {root}", LAYOUT)
    folders = {folder.name for folder in _subfolders(root)}
    if "train" not in folders:
        lone = sorted(folders & {"val", "test"})
        if lone:
            raise InputError(f"data.root: {root} holds {', '.join(lone)} but no train folder", LAYOUT)
        return {"train": _class_folders(root)}
    for wrong in sorted(folders & set(MISNAMED)):
        if MISNAMED[wrong] not in folders:
            raise InputError(f"data.root: {root / wrong} would not be read", f"Rename it to {MISNAMED[wrong]!r}.")
    splits: dict[str, ClassFolders] = {
        name: _class_folders(root / name) for name in ("train", "val", "test") if name in folders
    }
    for name, split in splits.items():
        _same_classes(splits["train"], split, name)
    return splits


def _same_classes(train: ClassFolders, other: ClassFolders, name: str) -> None:
    missing = sorted(set(train.class_names) - set(other.class_names))
    extra = sorted(set(other.class_names) - set(train.class_names))
    parts = [f"{name} lacks {', '.join(missing[:5])}"] if missing else []
    parts += [f"train lacks {', '.join(extra[:5])}"] if extra else []
    if parts:
        raise InputError(
            f"{other.root}: the classes differ between train and {name}: {'; '.join(parts)}",
            "Every split needs the same class folders.",
        )


def _subfolders(folder: Path) -> list[Path]:
    """List the folders in a folder; a link to one of those above it, which would never end, is passed over."""
    above = {(info.st_dev, info.st_ino) for info in map(os.stat, (folder, *folder.resolve().parents))}
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or not os.path.isdir(entry.path):  # false for a link that leads to itself
                continue
            info = os.stat(entry.path)
            if (info.st_dev, info.st_ino) not in above:
                found.append(Path(entry.path))
    return sorted(found)


def _class_folders(root: Path) -> ClassFolders:
    folders = _subfolders(root)
    if not folders:
        raise InputError(f"{root}: no class folder in it", LAYOUT)
    paths: list[str] = []
    labels: list[int] = []
    stamps: list[tuple[int, int]] = []
    empty: list[str] = []
    for label, folder in enumerate(folders):
        with os.scandir(folder) as entries:
            images = sorted((entry.path, entry.stat()) for entry in entries if _is_image(entry))
        if not images:
            empty.append(str(folder))
        paths += [path for path, _ in images]
        stamps += [(stat.st_size, stat.st_mtime_ns) for _, stat in images]
        labels += [label] * len(images)
    if empty:
        raise InputError(
            f"no image in class folder {', '.join(empty[:5])}{' ...' if len(empty) > 5 else ''}",
            f"Add images ({' '.join(EXTENSIONS)}) or remove the folder.",
        )
    names = tuple(folder.name for folder in folders)
    if len(names) == 1:
        raise InputError(f"{root}: only one class folder ({names[0]!r}): nothing to tell apart", LAYOUT)
    return ClassFolders(root, names, tuple(paths), tuple(labels), tuple(stamps))


def _is_image(entry: os.DirEntry[str]) -> bool:
    named = not entry.name.startswith(".") and entry.name.lower().endswith(EXTENSIONS)
    return named and os.path.isfile(entry.path)  # false, where entry.is_file() raises: a link that leads to itself


def decode(path: str, size: tuple[int, int] | None, channels: int) -> np.ndarray:
    """Decode one image to (H, W, C) uint8, turned upright, cropped in its middle and resized to `size` (H, W) if given.

    Raises:
        InputError: the file is no image, or is cut off; the path is named.
    """
    from PIL import Image, ImageOps

    mode = "L" if channels == 1 else "RGB"
    try:
        with Image.open(path) as file:
            image: Image.Image = file
            if size is not None and file.format == "JPEG":
                # The decoder can halve a large photo while it reads; twice the size keeps the quality of the resize.
                file.draft(mode, (2 * size[1], 2 * size[0]))
            if image.mode.startswith("I"):  # 16 bits per pixel; convert() would clip them at 255
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            elif image.getexif():
                image = ImageOps.exif_transpose(image)
            image = image.convert(mode)
            if size is not None and image.size != (size[1], size[0]):
                image = ImageOps.fit(image, (size[1], size[0]), method=Image.Resampling.BILINEAR)
            return np.asarray(image).reshape(image.height, image.width, channels)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable image ({error})", "Replace the file or remove it.") from None


def decode_all(
    paths: Sequence[str], size: tuple[int, int] | None, channels: int, allocate: Allocate, on_progress: OnProgress
) -> None:
    """Decode all images into one array (N, H, W, C) in parallel threads; PIL lets the others run while it decodes.

    Raises:
        InputError: unreadable images, all of them counted and the first five named; sizes that differ while
            `image_size` is not set.
    """
    first = decode(paths[0], size, channels)
    out = allocate((len(paths), *first.shape), np.uint8)

    def work(start: int) -> list[str]:
        problems = []
        for i in range(start, min(start + CHUNK, len(paths))):
            try:
                image = decode(paths[i], size, channels)
            except InputError as error:
                problems.append(error.message)
                continue
            if image.shape != first.shape:
                raise InputError(
                    f"{paths[i]} is {image.shape[1]}x{image.shape[0]} pixels, "
                    f"but {paths[0]} is {first.shape[1]}x{first.shape[0]}",
                    "Set data.image_size, so that all images are resized.",
                )
            out[i] = image
        return problems

    problems: list[str] = []
    starts = range(0, len(paths), CHUNK)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        futures = [pool.submit(work, start) for start in starts]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                problems += future.result()
                on_progress(done / len(starts), f"decoding {len(paths)} images")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if problems:
        problems.sort()
        more = f"\n... and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise InputError("\n".join(problems[:5]) + more, "Replace these files or remove them.")
