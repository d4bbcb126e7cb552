"""Where does bf16 pay on this CPU? One step of many nets in fp32 and in bf16, interleaved, on one thread.

The border that `tuner/search/precision.py` draws, in multiply-adds of a batch's forward, rests on this table.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tuner.parts.models import convnet, mlp, resnet8, resnet20
from tuner.train.device import keep_freed_memory

SECONDS = 2.0  # per net
DIGITS, MNIST, CIFAR = (1, 8, 8), (1, 28, 28), (3, 32, 32)


class Tokens(nn.Module):
    """Turn (N, C, positions) into (N, positions, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2)


class Mean(nn.Module):
    """Average over positions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(1)


def vit() -> nn.Module:
    layer = nn.TransformerEncoderLayer(96, 4, 192, batch_first=True)
    return nn.Sequential(
        nn.Conv2d(3, 96, 4, 4), nn.Flatten(2), Tokens(), nn.TransformerEncoder(layer, 3), Mean(), nn.Linear(96, 10)
    )


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "mlp 128, 64 inputs": (lambda: mlp((64,), 10), (64,), 64),
    "mlp 512, 64 inputs": (lambda: mlp((64,), 10, 512), (64,), 64),
    "mlp 256, 3072 inputs": (lambda: mlp((3072,), 10, 256), (3072,), 64),
    "mlp 1024, 3072 inputs": (lambda: mlp((3072,), 10, 1024), (3072,), 64),
    "mlp 1024 x 3, 784 inputs": (lambda: mlp((784,), 10, 1024, 3), (784,), 256),
    **{f"convnet {w}, 8x8": ((lambda w=w: convnet(DIGITS, 10, w)), DIGITS, 64) for w in (8, 16, 32)},
    **{f"convnet {w}, 28x28": ((lambda w=w: convnet(MNIST, 10, w)), MNIST, 64) for w in (8, 32)},
    **{f"convnet {w}, 32x32": ((lambda w=w: convnet(CIFAR, 10, w)), CIFAR, 64) for w in (8, 16, 32, 64)},
    "convnet 32, gelu, no batch norm": (
        lambda: convnet(CIFAR, 10, 32, batch_norm=False, activation="gelu"),
        CIFAR,
        64,
    ),
    "resnet8": (lambda: resnet8(CIFAR, 10), CIFAR, 64),
    "resnet8, width 32": (lambda: resnet8(CIFAR, 10, 32), CIFAR, 64),
    "resnet20": (lambda: resnet20(CIFAR, 10), CIFAR, 64),
    "torchvision resnet18, 32x32": (lambda: torchvision.models.resnet18(num_classes=10), CIFAR, 16),
    "torchvision mobilenet_v3_small, 64x64": (
        lambda: torchvision.models.mobilenet_v3_small(num_classes=10),
        (3, 64, 64),
        64,
    ),
    "transformer of 3 layers, 32x32": (vit, CIFAR, 32),
}


def main() -> None:
    keep_freed_memory()
    torch.set_num_threads(1)
    print("| net | batch | million multiply-adds | fp32, ms | bf16, ms | bf16 is x times as fast |")
    print("|---|---|---|---|---|---|")
    for name, (build, shape, batch_size) in NETS.items():
        work, seconds = measured(build, shape, batch_size)
        full, short = (1e3 * statistics.median(values) for values in seconds)
        print(
            f"| {name} | {batch_size} | {work / 1e6:.1f} | {full:.2f} | {short:.2f} | {full / short:.2f} |", flush=True
        )


def measured(
    build: Callable[[], nn.Module], shape: tuple[int, ...], n: int
) -> tuple[int, tuple[list[float], list[float]]]:
    """Return the multiply-adds of a forward, and the seconds of each step in fp32 and in bf16."""
    torch.manual_seed(0)
    model, x, y = build(), torch.randn(n, *shape), torch.randint(0, 10, (n,))
    if len(shape) == 3:
        model, x = model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    with FlopCounterMode(display=False) as counter:
        model(x)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, fused=True)
    seconds: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(seconds[1]) < 6:
        for short in (False, True):
            start = time.perf_counter()
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=short):
                outputs = model(x)
            nn.functional.cross_entropy(outputs.float(), y).backward()
            optimizer.step()
            seconds[short].append(time.perf_counter() - start)
    return counter.get_total_flops() // 2, (seconds[0][2:], seconds[1][2:])


if __name__ == "__main__":
    main()
