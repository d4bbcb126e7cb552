"""The cache folder seen from outside: what decoded data it holds, and how to be rid of them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from dataclasses import dataclass
from pathlib import Path

DECODED = "decoded"
DOWNLOADS = "downloads"
COMPILED = "compiled"


@dataclass(frozen=True)
class Entry:
    """One thing in the cache: what it was made from, its size, and how long ago it was made."""

    path: Path
    kind: str  # decoded | compiled | downloaded | unfinished
    source: str
    size_bytes: int
    age_seconds: float

    def to_json(self) -> dict[str, object]:
        return {**vars(self), "path": str(self.path)}


def sidecar(array: Path) -> Path:
    """Return where the words about a cached array lie."""
    return array.with_suffix(".json")


def entries(folder: Path) -> list[Entry]:
    """List the cache, the largest first."""
    found = []
    for path in (folder / DECODED).glob("*"):
        if path.suffix in (".npy", ".tmp"):
            kind = "decoded" if path.suffix == ".npy" else "unfinished"
            found.append(_entry(path, kind, _source(path) if kind == "decoded" else path.stem))
    found += [_entry(path, "compiled", path.stem.rpartition("-")[0]) for path in (folder / COMPILED).glob("*.so")]
    found += [_entry(path, "downloaded", path.name) for path in (folder / DOWNLOADS).glob("*")]
    return sorted(found, key=lambda entry: (-entry.size_bytes, entry.path))


def clear(folder: Path) -> tuple[list[Entry], int]:
    """Delete what can be made again, but for what another process is making; return what went, and how many were left.

    Who has an array mapped keeps it until it ends. Downloads stay.
    """
    gone, left = [], 0
    for entry in entries(folder):
        if entry.kind == "downloaded":
            continue
        lock = entry.path.with_name(f"{entry.path.name.split('.')[0]}.lock")
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                left += 1
                continue
            entry.path.unlink(missing_ok=True)
            sidecar(entry.path).unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
        gone.append(entry)
    return gone, left


def _entry(path: Path, kind: str, source: str) -> Entry:
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    size, made = 0, 0.0
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            size, made = size + file.stat().st_size, max(made, file.stat().st_mtime)
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
