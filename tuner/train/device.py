"""The machine under a trial: its device, its random generators, its memory."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import random
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tuner.core.errors import EnvironmentProblem, first_line
from tuner.core.inventory import Gpu, Inventory, absent, parse_device, without_gpus


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch (every device), numpy and random."""
    if _has_accelerator():
        torch.manual_seed(seed)
    else:  # torch.manual_seed would spend 0.7 ms on remembering the call for devices that are not there
        torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@functools.cache
def _has_accelerator() -> bool:
    return torch.accelerator.is_available()


def pick_device(name: str) -> str:
    """Return the torch device to use: `auto` is the GPU where there is one, else the CPU; of a list, the first.

    Raises:
        UsageError: "unknown device".
        EnvironmentProblem: "there is no such device here".
    """
    kind, indices = parse_device(name)
    if kind == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    counts = {"cpu": lambda: 1, "cuda": torch.cuda.device_count, "mps": lambda: int(torch.backends.mps.is_available())}
    if max(indices, default=0) >= counts[kind]():
        raise absent(name, inventory())
    return f"{kind}:{indices[0]}" if indices else kind


def inventory(device: str = "cuda") -> Inventory:
    """Return what this machine has, GPUs included unless the device is the CPU, with the memory free on each now.

    Raises:
        EnvironmentProblem: "cannot be used": a GPU is full, or another process has it for itself.
    """
    if device == "cpu":
        return without_gpus()
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    gpus = []
    for index in range(torch.cuda.device_count()):
        try:
            free, total = torch.cuda.mem_get_info(index)
        except RuntimeError as error:
            text = f"--device: CUDA device {index} cannot be used: {first_line(error)}"
            hint = "Free its memory, leave it out of CUDA_VISIBLE_DEVICES, or use --device cpu."
            raise EnvironmentProblem(text, hint) from error
        name = visible[index] if index < len(visible) else str(index)
        known = torch.cuda.get_device_properties(index)
        gpus.append(Gpu(name, known.name, total, free, str(getattr(known, "uuid", ""))))
    return replace(without_gpus(), gpus=tuple(gpus), mps=torch.backends.mps.is_available())


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """Put torch's global generators back after the block, those of GPUs where this process uses one.

    torch's own fork_rng starts CUDA: a trial on the CPU has no use for it, and there may be no memory left for it.
    """
    used = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=used):
        yield


def wait_for(device: str) -> None:
    """Wait until a GPU has done what it was asked: before that, a clock tells how long asking took."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def take_gpu(device: str) -> None:
    """Have this process use a GPU, and the GPU give the same numbers twice wherever torch has a way that does.

    By itself a GPU adds up in any order what several of its threads write to one place: in the gradients of
    convolutions, of embeddings and of indexing.
    """
    if not device.startswith("cuda"):
        return
    if ":" in device:
        torch.cuda.set_device(device)  # where code of the user's own puts what it sends to "cuda"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read before the first product of matrices
    torch.backends.cudnn.deterministic = True
    torch._C._set_deterministic_fill_uninitialized_memory(False)  # that is for finding mistakes, and takes time
    set_deterministic(True, warn_only=True)
    warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation")


def set_deterministic(mode: bool, warn_only: bool) -> None:
    """Do what torch.use_deterministic_algorithms does, without its import of the compiler, which takes seconds."""
    torch._C._set_deterministic_algorithms(mode, warn_only=warn_only)


@contextlib.contextmanager
def in_full_precision(device: str) -> Iterator[None]:
    """Within the block, float32 on a GPU is float32: by itself torch rounds what convolutions multiply to 10 bits.

    For measurements, which compare outputs that differ by rounding alone. Who has set it by torch's newer, finer
    switches keeps what they have set.
    """
    try:
        before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    except RuntimeError:  # "a mix of the legacy and new APIs"
        before = None
    if not device.startswith("cuda") or before is None:
        yield
        return
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


def short_format(device: str) -> str | None:
    """Return the 16-bit format that the device multiplies in at more than the speed of fp32, or None.

    On a CPU: bf16 where it has instructions for it (AVX-512 BF16, AMX). On a GPU: bf16, or fp16 on an older one.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if kind != "cpu":
        return None
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return "bf16" if any(supported is not None and supported() for supported in asked) else None


MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # of glibc's mallopt


def keep_freed_memory() -> None:
    """Have the C library keep what a step frees for the next step, instead of handing it back to the system.

    Large tensors are otherwise mapped, cleared by the kernel page by page, and unmapped, in every step: up to a quarter
    of the time of a small conv net. Where the C library is not glibc, nothing is changed.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):  # TypeError: on Windows
        mallopt = ctypes.CDLL(None).mallopt
        for largest in (1 << 30, 32 << 20):  # older versions refuse more than 32 MiB
            if mallopt(MMAP_THRESHOLD, largest):
                break
        mallopt(TRIM_THRESHOLD, 2**31 - 1)


def give_back_memory() -> None:
    """Hand the memory that an earlier trial left free back to the system."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak_memory(device: str) -> None:
    """Start measuring the peak from here, where the system can."""
    give_back_memory()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes(device: str) -> int:
    """Return the peak since the reset: of the GPU's allocator, or of the process on a CPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    with contextlib.suppress(ImportError):  # Windows does not have the module
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return 0
