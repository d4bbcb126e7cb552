"""The one cache folder that all runs share: where it is, what it holds, and how to delete that."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from tuner.core.locks import Held, hold

DECODED = "decoded"
DOWNLOADS = "downloads"


def cache_folder() -> Path:
    """Return the cache folder: $TUNER_CACHE, or `tuner` in the user's cache folder (Linux: $XDG_CACHE_HOME)."""
    given = os.environ.get("TUNER_CACHE")
    return Path(given).expanduser() if given else platformdirs.user_cache_path("tuner", appauthor=False)


@dataclass(frozen=True)
class Entry:
    """One thing in the cache: what it was made from, its size, and how long ago it was made."""

    path: Path
    kind: str  # decoded | downloaded | unfinished | other: what an earlier version or another program put there
    source: str
    size_bytes: int
    age_seconds: float

    def to_json(self) -> dict[str, object]:
        return {**vars(self), "path": str(self.path)}


def sidecar(array: Path) -> Path:
    """Return where the words about a cached array lie."""
    return array.with_suffix(".json")


def entries(folder: Path) -> list[Entry]:
    """List everything in the cache, the largest first; what belongs to an entry (its words, its lock) is no entry."""
    found = []
    for path in (folder / DECODED).glob("*"):
        if path.suffix == ".npy":
            found.append(_entry(path, "decoded", _source(path)))
        elif path.suffix == ".tmp":
            found.append(_entry(path, "unfinished", path.stem))
        elif path.suffix not in (".json", ".lock", ".lease"):
            found.append(_entry(path, "other", path.name))
    found += [_entry(path, "downloaded", path.name) for path in (folder / DOWNLOADS).glob("*")]
    found += [_entry(path, "other", path.name) for path in folder.glob("*") if path.name not in (DECODED, DOWNLOADS)]
    return sorted(found, key=lambda entry: (-entry.size_bytes, entry.path))


def clear(folder: Path) -> tuple[list[Entry], int]:
    """Delete what can be made again, but for what another process is making; return what went, and how many were left.

    A process that has an array mapped keeps it until it ends. Downloads stay. A link is deleted, not what it leads to.
    """
    gone, left = [], 0
    for entry in entries(folder):
        if entry.kind == "downloaded":
            continue
        if entry.path.is_dir() and not entry.path.is_symlink():
            shutil.rmtree(entry.path)
        elif entry.kind == "other":
            entry.path.unlink(missing_ok=True)
        elif not _deleted(entry.path):
            left += 1
            continue
        gone.append(entry)
    return gone, left


def _deleted(array: Path) -> bool:
    """Delete an array with its words and its lock, unless another process has the lock."""
    lock = array.with_name(f"{array.name.split('.')[0]}.lock")
    try:
        with hold(lock):
            array.unlink(missing_ok=True)
            sidecar(array).unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
    except Held:
        return False
    return True


def _entry(path: Path, kind: str, source: str) -> Entry:
    inside = path.is_dir() and not path.is_symlink()
    files = [file for file in path.rglob("*") if file.is_file()] if inside else [path]
    size, made = 0, 0.0
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            info = file.lstat()
            size, made = size + info.st_size, max(made, info.st_mtime)
    return Entry(path, kind, source, size, max(0.0, time.time() - made))


def _source(array: Path) -> str:
    """Return what an array was made from: its source, and the folder where it had one."""
    name = array.stem.rpartition("-")[0]
    with contextlib.suppress(OSError, ValueError, AttributeError):
        root = json.loads(sidecar(array).read_text()).get("root")
        return f"{name} {root}" if root else name
    return name


def size_words(size_bytes: float) -> str:
    """Say a size: `512 B`, `1.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000 or unit == "GB":
            break
        size_bytes /= 1000
    return f"{size_bytes:.3g} {unit}"
