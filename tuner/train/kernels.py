"""Batch norm and max pooling of channels-last images on one CPU thread: torch's own bits in less than half the time.

Where a conv net spends most of its step besides the convolutions. kernels.c is compiled once per machine by its C
compiler and kept in the cache folder. It is used where, on trial inputs, it gives the very bits that torch gives here;
otherwise, and for every other case, torch's own operations run. So what a trial computes never depends on it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from ctypes import c_double, c_float, c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tuner.core.cached import COMPILED
from tuner.core.trial import digest
from tuner.train.cache import cache_folder

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC")
FORMATS = {torch.float32: 0, torch.bfloat16: 1}
LANES = 16  # channels come in multiples of it
LEAST = 1 << 15  # values of an input below which the call costs more than it saves
LARGEST_WINDOW = 15  # pixels a side: a place in it is one byte
MOST_ROWS = 1 << 24  # pixels of a batch, counted in a float
COMPILER_SECONDS = 60

SIGNATURES = {
    "batch_norm": [c_void_p] * 2 + [c_int64] * 2 + [c_void_p] * 4 + [c_float, c_double] + [c_void_p] * 4,
    "batch_norm_backward": [c_void_p] * 3 + [c_int64] * 2 + [c_void_p] * 5,
    "max_pool": [c_void_p] * 3 + [c_int64] * 5,
    "max_pool_backward": [c_void_p] * 3 + [c_int64] * 5,
}
TORCH: dict[str, Any] = {"batch_norm": F.batch_norm, "max_pool2d": F.max_pool2d}


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Let `F.batch_norm` and `F.max_pool2d`, and so the modules that call them, use the kernels where they can."""
    for function in (batch_norm, max_pool2d):
        setattr(F, function.__name__, function)
    try:
        yield
    finally:
        for name, function in TORCH.items():
            setattr(F, name, function)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Do what `F.batch_norm` does; in training, on images (N, C, H, W), by the kernel."""
    channels = (running_mean, running_var, weight, bias)
    if training and _fits(input) and all(item is not None and _is_row(item, input.shape[1]) for item in channels):
        return _BatchNorm.apply(input, *channels, momentum, eps)
    return TORCH["batch_norm"](input, *channels, training, momentum, eps)


def max_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Do what `F.max_pool2d` does; over square windows side by side by the kernel."""
    size = kernel_size if isinstance(kernel_size, int) else 0
    side_by_side = 2 <= size <= LARGEST_WINDOW and stride in (None, size) and padding == 0 and dilation == 1
    if side_by_side and not ceil_mode and not return_indices and _fits(input) and min(input.shape[2:]) >= size:
        return _MaxPool.apply(input, size)
    return TORCH["max_pool2d"](input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, running_mean: Tensor, running_var: Tensor, *rest: Any) -> Tensor:
        weight, bias, momentum, eps = rest
        y = torch.empty_like(x)
        mean, invstd, factor, shift = torch.empty(4, x.shape[1], dtype=torch.float32, device="cpu")
        learned = (weight, bias, running_mean, running_var)
        _call("batch_norm", x.dtype, x, y, *_rows(x), *learned, momentum, eps, mean, invstd, factor, shift)
        ctx.save_for_backward(x, weight, mean, invstd)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, invstd = ctx.saved_tensors
        if _is_channels_last(dy) and _goes_on(dy, x):
            dx, dweight, dbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
            _call("batch_norm_backward", x.dtype, dy, x, dx, *_rows(x), weight, mean, invstd, dweight, dbias)
        else:
            wanted = [True, True, True]
            dx, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
                dy, x, weight, None, None, mean, invstd, True, ctx.eps, wanted
            )
        return dx, None, None, dweight, dbias, None, None


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int) -> Tensor:
        n, channels, height, width = x.shape
        y = x.new_empty(n, height // size, width // size, channels).permute(0, 3, 1, 2)
        which = torch.empty_like(y, dtype=torch.uint8) if x.requires_grad else None
        _call("max_pool", x.dtype, x, y, which, n, height, width, channels, size)
        ctx.save_for_backward(x, which)
        ctx.size = size
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        x, which = ctx.saved_tensors
        if _is_channels_last(dy) and _goes_on(dy, x):
            dx = torch.empty_like(x)
            n, channels, height, width = x.shape
            _call("max_pool_backward", x.dtype, dy, which, dx, n, height, width, channels, ctx.size)
            return dx, None
        both = [ctx.size, ctx.size]
        indices = TORCH["max_pool2d"](x.detach(), ctx.size, return_indices=True)[1]
        dx = torch.ops.aten.max_pool2d_with_indices_backward(dy, x, both, both, [0, 0], [1, 1], False, indices)
        return dx, None


def _fits(x: Tensor) -> bool:
    """Tell whether a kernel can take this batch of images: large, on one CPU thread, with nothing that traces."""
    return (
        x.numel() >= LEAST
        and type(x) is Tensor
        and not (torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._are_functorch_transforms_active())
        and x.dtype in FORMATS
        and x.device.type == "cpu"
        and _is_channels_last(x)
        and x.shape[1] % LANES == 0
        and _rows(x)[0] < MOST_ROWS
        and torch.get_num_threads() == 1
        and _is_usable(x.dtype)
    )


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _is_row(item: Tensor, channels: int) -> bool:
    return item.dtype == torch.float32 and item.shape == (channels,) and item.is_contiguous()


def _goes_on(dy: Tensor, x: Tensor) -> bool:
    """Tell whether the gradient can take the kernel; where it is differentiated itself, torch's operation must."""
    return dy.dtype == x.dtype and not torch.is_grad_enabled() and torch.get_num_threads() == 1


def _rows(x: Tensor) -> tuple[int, int]:
    return x.numel() // x.shape[1], x.shape[1]


def _call(name: str, dtype: torch.dtype, *args: Any) -> None:
    getattr(_library(dtype), name)(*(arg.data_ptr() if isinstance(arg, Tensor) else arg for arg in args))


@functools.cache
def _is_usable(dtype: torch.dtype) -> bool:
    """Tell whether there are kernels for values of this type, and whether they give torch's bits on trial inputs."""
    if "avx512f" not in _processor().split():
        return False  # in narrower vectors they take longer than torch's
    try:
        _library(dtype)
    except (OSError, AttributeError, subprocess.SubprocessError):
        return False
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
        return all(_agrees(dtype, channels, size) for channels, size in ((16, 3), (48, 2), (80, 2)))


def _agrees(dtype: torch.dtype, channels: int, size: int) -> bool:
    random = torch.Generator("cpu").manual_seed(channels)
    fp32: dict[str, Any] = {"generator": random, "dtype": torch.float32, "device": "cpu"}
    x, dy = (torch.randn(16, 15, 17, channels, **fp32).to(dtype).permute(0, 3, 1, 2) for _ in range(2))
    dy[2:] = -0.0  # sparse: where terms cancel, a rounding more or less shows in bf16 too
    rough = (4 * x).round() / 4  # with ties, and zeros of both signs
    rough[0, 0, 0, 0] = torch.nan
    rows = [torch.rand(channels, **fp32) for _ in range(4)]

    def results(norm: Any, pool: Any) -> list[Tensor]:
        mean, var, *learned = (row.clone() for row in rows)
        leaves = [item.clone().requires_grad_() for item in (x, rough, *learned)]
        outputs = norm(leaves[0], mean, var, *leaves[2:]), pool(leaves[1])
        for y in outputs:
            y.backward(dy[..., : y.shape[2], : y.shape[3]].contiguous(memory_format=torch.channels_last))
        return [mean, var, *outputs, *(leaf.grad for leaf in leaves if leaf.grad is not None)]

    ours = results(lambda *args: _BatchNorm.apply(*args, 0.1, 1e-5), lambda x: _MaxPool.apply(x, size))
    torchs = results(lambda *args: TORCH["batch_norm"](*args, True, 0.1, 1e-5), lambda x: TORCH["max_pool2d"](x, size))
    return all(_are_same(*pair) for pair in zip(ours, torchs, strict=True))


def _are_same(one: Tensor, other: Tensor) -> bool:
    """Compare bits, but for those of NaN."""
    kind = {2: torch.int16, 4: torch.int32}[one.element_size()]
    return bool(((one.view(kind) == other.view(kind)) | (one.isnan() & other.isnan())).all())


@functools.cache
def _library(dtype: torch.dtype) -> ctypes.CDLL:
    library = ctypes.CDLL(str(_compiled(dtype)))
    for name, types in SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = types, None
    return library


def _compiled(dtype: torch.dtype) -> Path:
    """Return the compiled file, made where this machine has none yet.

    Raises:
        OSError: there is no C compiler, or the cache folder cannot be written.
        subprocess.SubprocessError: the compiler failed.
    """
    bf16 = f"-DBF16={FORMATS[dtype]}"
    key = digest([SOURCE.read_text(), *FLAGS, bf16, platform.machine(), _processor()])
    path = cache_folder() / COMPILED / f"kernels-{key[:20]}.so"
    if path.exists():
        return path
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise OSError("no C compiler")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder, path.name)
        command = [compiler, *FLAGS, bf16, str(SOURCE), "-o", str(made), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=COMPILER_SECONDS)
        os.replace(made, path)
    return path


def _processor() -> str:
    """Return what tells processors apart that need machine code of their own."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return platform.processor()
