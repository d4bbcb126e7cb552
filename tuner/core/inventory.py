"""What a machine has to run trials on: a value, so that plans can be made, and tested, for any machine."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tuner.core.errors import EnvironmentProblem, UsageError, did_you_mean

KINDS = ("auto", "cpu", "cuda", "mps")
CGROUP = Path("/sys/fs/cgroup")  # what a container may use, where the kernel says so
ASSUMED_BYTES = 8 << 30  # of memory, where the system does not say
CONTEXT_BYTES = 600_000_000  # of a GPU's memory, for what a process takes besides tensors (the CUDA context)
FREE_SHARE = 0.95  # of a device's free memory that trials may fill


@dataclass(frozen=True)
class Gpu:
    """One CUDA device. `name`: as CUDA_VISIBLE_DEVICES names it, an index or a UUID. Memory in bytes.

    `uuid`: its own id wherever it is seen from; empty: not known.
    """

    name: str
    model: str
    total_bytes: int
    free_bytes: int
    uuid: str = ""


@dataclass(frozen=True)
class Inventory:
    """CPU cores that this process may use, memory in bytes, the CUDA devices, and whether there is an Apple GPU."""

    cores: int
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()
    mps: bool = False


def parse_device(text: str) -> tuple[str, tuple[int, ...]]:
    """Return the kind of device that `--device` names, and the indices, if it names any: `cuda:0,cuda:2`.

    Raises:
        UsageError: "unknown device", "devices of one kind".
    """
    kinds, indices = [], []
    for part in text.split(","):
        kind, colon, index = part.strip().partition(":")
        if kind not in KINDS or (colon and (kind != "cuda" or not re.fullmatch("[0-9]{1,4}", index))):
            known = f"One of: {', '.join(KINDS)}, cuda:1, or several: cuda:0,cuda:2."
            raise UsageError(f"--device: unknown device {part.strip()!r}{did_you_mean(kind, KINDS)}", known)
        kinds.append(kind)
        indices += [int(index)] if colon else []
    if len(set(kinds)) > 1 or len(kinds) != max(1, len(indices)) or len(set(indices)) != len(indices):
        text = f"--device: a list takes devices of one kind, each once and with its number (got {text!r})"
        raise UsageError(text, "As in --device cuda:0,cuda:2.")
    return kinds[0], tuple(indices)


def limit_bytes(inventory: Inventory, kind: str) -> int:
    """Return the memory that a trial may have which has a device to itself; of several GPUs, the one with most."""
    if kind != "cuda":
        return inventory.memory_bytes
    return max((round(FREE_SHARE * gpu.free_bytes) - CONTEXT_BYTES for gpu in inventory.gpus), default=0)


def absent(device: str, inventory: Inventory) -> EnvironmentProblem:
    """Return the error that says that a machine does not have the device that was asked for."""
    counts = {"cpu": 1, "cuda": len(inventory.gpus), "mps": int(inventory.mps)}
    there = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    return EnvironmentProblem(f"--device: there is no {device!r} here (there is: {there})", "Use --device auto or cpu.")


def without_gpus() -> Inventory:
    """Return what this machine has as far as it shows without loading torch."""
    return Inventory(_cores(), _memory_bytes())


def _cores() -> int:
    """Return how many cores this process may use; macOS and Windows know no affinity, only how many there are."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = (os.cpu_count() or 1) if affinity is None else len(affinity(0))
    with suppress(OSError, ValueError):
        quota, period = (CGROUP / "cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))  # ValueError: "max", no quota
    return cores


def _memory_bytes() -> int:
    memory = ASSUMED_BYTES
    with suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        memory = min(memory, int((CGROUP / "memory.max").read_text()))
    return memory
