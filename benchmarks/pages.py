"""Two workers hold the data once: what /proc says of the cache's mapping in each of them."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

ROWS, VALUES = 4000, 3072
KEYS = ("Size", "Rss", "Pss", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty")


def measure(work: Path) -> dict[str, Any]:
    """Let two processes read all of a cached array batch by batch; return the sizes (kB) of its mapping in each."""
    from tuner.parts.examples import Stored
    from tuner.train.cache import open_stored

    def make(allocate: Any, on_progress: Any) -> None:
        allocate((ROWS, VALUES), np.uint8)[:] = np.arange(VALUES, dtype=np.uint8)

    stored = Stored("pages", {"made for": "the benchmark"}, make)
    array = open_stored(stored, work / "cache", lambda share, words: None)
    path = str(array.filename)
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for _ in range(2):
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=read, args=(path, theirs)))
        processes[-1].start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    sizes = {f"worker {i + 1}": mapping(process.pid, path) for i, process in enumerate(processes)}
    for pipe in pipes:
        pipe.send("end")
    for process in processes:
        process.join()
    return {"file_bytes": Path(path).stat().st_size, "processes": sizes}


def read(path: str, pipe: Connection) -> None:
    """Read the whole mapping as a trial does."""
    import torch

    from tuner.train.cache import _mapped
    from tuner.train.stores import ArrayStore

    values = torch.from_numpy(_mapped(Path(path)))
    store = ArrayStore(values, torch.zeros(len(values), dtype=torch.int64), images=False)
    for chosen in torch.randperm(len(values)).split(64):
        store.read(chosen)
    pipe.send("read")
    pipe.recv()


def mapping(pid: int | None, path: str) -> dict[str, int]:
    """Return the sizes (kB) of a file's mappings in a process, from /proc/PID/smaps."""
    sizes = dict.fromkeys(KEYS, 0)
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        key, _, rest = line.partition(":")
        if "-" in key.split()[0] and len(key.split()[0]) > 10:
            inside = line.endswith(path)
        elif inside and key in sizes:
            sizes[key] += int(rest.split()[0])
    return sizes
