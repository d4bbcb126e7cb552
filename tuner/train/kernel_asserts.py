"""What the kernels of a GPU assert of labels, indices and probabilities, asked before they are called.

A CPU raises at once, and what calls it goes on. On a GPU a failed assertion shows at some later call, and nothing on
the GPU works in that process from then on. What may be refused is therefore asked of a loss within `as_on_cpu`, where
torch's functions raise what they raise on a CPU. It waits for the GPU at each of these calls: not for training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

ASSERTED = "device-side assert"
SAID = "the GPU refuses an index, a label or a probability that is out of range (a device-side assert)"
HINT = (
    "Often a label that is not below the number of outputs, an id beyond an embedding, or values that are no "
    "probabilities in binary_cross_entropy: --device cpu shows the line."
)


@contextmanager
def as_on_cpu(device: str | torch.device) -> Iterator[None]:
    """Within the block, torch's functions refuse on a GPU what they refuse on a CPU, before the kernel does."""
    if torch.device(device).type != "cuda":
        yield
        return
    with _Asked():
        yield


def is_assertion(error: BaseException) -> bool:
    """Return whether an exception says that a kernel's assertion failed: the process has no GPU any more."""
    return isinstance(error, RuntimeError) and ASSERTED in str(error)


class _Asked(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        check = CHECKS.get(function)
        if check is not None:
            check(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _labels(
    input: Tensor, target: Tensor, weight: Any = None, size_average: Any = None, ignore_index: int = -100, **_: Any
) -> None:
    if input.ndim == 0 or target.is_floating_point():
        return
    for label in _outside(target, input.shape[min(1, input.ndim - 1)], but=ignore_index):
        raise IndexError(f"Target {label} is out of bounds.")


def _margins(input: Tensor, target: Tensor, *_: Any, **__: Any) -> None:
    for _label in _outside(target, input.shape[-1] if input.ndim else 1):
        raise RuntimeError("target out of range")


def _probabilities(input: Tensor, target: Tensor, *_: Any, **__: Any) -> None:
    for name, values in (("input", input), ("target", target)):
        if _is_asked(values) and not bool(((values >= 0) & (values <= 1)).all()):
            raise RuntimeError(f"all elements of {name} should be between 0 and 1")


def _rows(input: Tensor, weight: Tensor, *_: Any, **__: Any) -> None:
    for _index in _outside(input, len(weight)):
        raise IndexError("index out of range in self")


def _one_hot(tensor: Tensor, num_classes: int = -1) -> None:
    for label in _outside(tensor, num_classes if num_classes > 0 else None):
        raise RuntimeError(f"Class values must be {'non-negative' if label < 0 else 'smaller than num_classes'}.")


def _along(input: Tensor, dim: Any, index: Any = None, *_: Any, **__: Any) -> None:
    if isinstance(dim, int) and isinstance(index, Tensor) and input.ndim:
        for place in _outside(index, input.shape[dim]):
            raise RuntimeError(f"index {place} is out of bounds for dimension {dim} with size {input.shape[dim]}")


def _places(input: Tensor, index: Any, *_: Any) -> None:
    axis = 0
    for item in index if isinstance(index, tuple) else (index,):
        if item is Ellipsis or axis >= input.ndim:
            return
        size = input.shape[axis]
        if isinstance(item, Tensor) and item.dtype not in (torch.bool, torch.uint8):
            for place in _outside(item, size, least=-size):
                raise IndexError(f"index {place} is out of bounds for dimension {axis} with size {size}")
        is_mask = isinstance(item, Tensor) and item.dtype in (torch.bool, torch.uint8)
        axis += item.ndim if is_mask else int(item is not None)


CHECKS: dict[Any, Callable[..., None]] = {
    F.cross_entropy: _labels,
    F.nll_loss: _labels,
    F.multi_margin_loss: _margins,
    F.multilabel_margin_loss: _margins,
    F.binary_cross_entropy: _probabilities,
    F.embedding: _rows,
    F.embedding_bag: _rows,
    F.one_hot: _one_hot,
    Tensor.__getitem__: _places,
    Tensor.__setitem__: _places,
    **{
        function: _along
        for name in ("gather", "take_along_dim", "index_select", "scatter", "scatter_add")
        for function in (getattr(torch, name), getattr(Tensor, name))
    },
    Tensor.scatter_: _along,
    Tensor.scatter_add_: _along,
}


def _is_asked(values: Any) -> bool:
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return isinstance(values, Tensor) and values.device.type == "cuda" and values.numel() > 0 and not wrapped(values)


def _outside(values: Tensor, size: int | None, least: int = 0, but: int | None = None) -> list[int]:
    """Return one of the values that are not from `least` to below `size` and not `but`; an empty list if none is."""
    if not _is_asked(values) or values.is_floating_point():
        return []
    low = values < least
    wrong = low if size is None else low | (values >= size)
    wrong = wrong if but is None else wrong & (values != but)
    return [int(values[wrong][0])] if bool(wrong.any()) else []
