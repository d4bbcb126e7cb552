"""A model layer by layer: shapes, weights, multiply-adds, receptive fields, activations at init, and remarks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tuner.train import operations

WINDOWS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d)
WHOLE = (nn.Linear, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


BINS = 12  # of a histogram


@dataclass(frozen=True)
class Layer:
    """One layer as it was run. Shapes are without the batch. `field`: pixels of the layer's own input that a value
    depends on; `field_of_net`: of the network's input (None: all of it). `multiply_adds`: of one example.
    `histogram`: shares of the outputs in equal parts of their range.
    """

    name: str
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    parameters: int
    multiply_adds: int
    field: int | None
    field_of_net: int | None
    mean: float
    std: float
    zeros: float
    histogram: list[float]

    def to_json(self) -> dict[str, Any]:
        return vars(self)


@torch.no_grad()
def layers_of(model: nn.Module, inputs: Tensor) -> list[Layer]:
    """Run a batch through the model in train mode, and say what each layer made of it, in the order of the run."""
    rows: list[Layer] = []
    seen: dict[int, tuple[Tensor, int | None, int]] = {id(inputs): (inputs, 1, 1)}  # tensor -> (kept, field, jump)
    last: list[tuple[int | None, int]] = [(1, 1)]
    handles = []

    def hook(name: str) -> Any:
        def note(module: nn.Module, given: tuple[Any, ...], out: Any) -> None:
            if not isinstance(out, Tensor) or not given or not isinstance(given[0], Tensor):
                return
            known = seen.get(id(given[0]))
            before, jump = (known[1], known[2]) if known else last[-1]
            own = window(module)
            after: int | None = before
            if isinstance(module, WHOLE) or type(module).__name__ == "GlobalAveragePool":
                after = None
            elif own is not None and before is not None:
                after, jump = before + (own[0] - 1) * jump, jump * own[1]
            seen[id(out)] = (out, after, jump)
            # what functions make of several branches sees as much as the widest of them
            last.append((None if after is None or last[-1][0] is None else max(after, last[-1][0]), jump))
            values = out.float()
            rows.append(
                Layer(
                    name,
                    type(module).__name__,
                    tuple(given[0].shape[1:]),
                    tuple(out.shape[1:]),
                    sum(item.numel() for item in module.parameters()),
                    0,
                    own[0] if own else None,
                    after,
                    float(values.mean()),
                    float(values.std()),
                    float((values == 0).float().mean()),
                    histogram(values),
                )
            )

        return note

    leaves = {name: module for name, module in model.named_modules() if not list(module.children())}
    handles = [module.register_forward_hook(hook(name)) for name, module in leaves.items()]
    model.train()
    model(inputs)
    for handle in handles:
        handle.remove()
    flops = _flops(model, inputs[:2])
    return [Layer(**{**vars(row), "multiply_adds": flops.get(row.name, 0)}) for row in rows]


def histogram(values: Tensor) -> list[float]:
    """Return the shares of the values in equal parts of their range, lowest first; of values all alike, none."""
    low, high = float(values.min()), float(values.max())
    if not low < high or not math.isfinite(high - low):
        return []
    counts = torch.histc(values.flatten(), BINS, low, high)
    return (counts / counts.sum()).tolist()


def window(module: nn.Module) -> tuple[int, int] | None:
    """Return (extent, stride) of a layer that slides a window: the kernel with its dilation, of the larger side."""
    if not isinstance(module, WINDOWS):
        return None
    kernel, stride = _largest(module.kernel_size), _largest(module.stride or module.kernel_size)
    dilation = _largest(getattr(module, "dilation", 1))
    return dilation * (kernel - 1) + 1, stride


def _largest(value: Any) -> int:
    return max(value) if isinstance(value, (tuple, list)) else int(value)


def _flops(model: nn.Module, inputs: Tensor) -> dict[str, int]:
    """Return the multiply-adds of one example by module name, as torch counts them (two operations each)."""
    counted = operations.counter()
    model.eval()
    with counted:
        model(inputs)
    prefix = f"{type(model).__name__}."
    return {
        name.removeprefix(prefix): int(sum(counts.values())) // (2 * len(inputs))
        for name, counts in counted.get_flop_counts().items()
    }


def remarks(model: nn.Module) -> list[str]:
    """Say what the notes on network design would say of the layers' kernels, strides, padding and widths."""
    convs = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    found = []

    def say(names: list[str], text: str) -> None:
        if names:
            found.append(f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}: {text}")

    say([n for n, m in convs.items() if m.kernel_size[0] % 2 == 0], "an even kernel has no centre: take an odd one")
    large = [n for n, m in convs.items() if m.kernel_size[0] == 5 and m.stride[0] == 1]
    say(large, "two 3x3 see as much as one 5x5, with 18 weights for 25 and an activation between")
    say([n for n, m in convs.items() if m.kernel_size[0] > 5], "a large kernel: several 3x3 see as much for less")
    shrinks = [n for n, m in convs.items() if m.kernel_size[0] > 1 and m.stride[0] == 1 and m.padding in ((0, 0), 0)]
    say(shrinks, "no padding: the map shrinks by kernel - 1, and border pixels count less")
    odd = [n for n, m in convs.items() if m.out_channels & (m.out_channels - 1)]
    say(odd, "channels that are no power of two use the hardware less well")
    pools = [n for n, m in model.named_modules() if isinstance(m, (nn.MaxPool2d, nn.AvgPool2d)) and window(m) == (2, 2)]
    say(pools, "2x2 pooling with stride 2 keeps a quarter of the values: 75 % are dropped")
    return found
