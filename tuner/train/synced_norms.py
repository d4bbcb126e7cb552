"""Batch norm over the examples of all processes of a trial (`train.sync_batch_norm`).

torch.nn.SyncBatchNorm is for GPUs alone; this one needs no more than a sum over the processes, so it runs, and is
tested, on a CPU as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as across
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def synced(model: nn.Module) -> None:
    """Have the batch norms of a model take their statistics over all processes in train mode, from now on."""
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
            module.__class__ = _synced_class(type(module))


_classes: dict[type, type] = {}


def _synced_class(kind: type) -> type:
    if kind not in _classes:
        _classes[kind] = type(f"Synced{kind.__name__}", (_Synced, kind), {})
    return _classes[kind]


_alone: list[None] = []  # not empty: one process does what the others do not


@contextmanager
def by_one_process() -> Iterator[None]:
    """Within the block batch norms do not wait for the other processes, which are elsewhere."""
    _alone.append(None)
    try:
        yield
    finally:
        _alone.pop()


class _Synced(_BatchNorm):
    """A batch norm whose forward pass in train mode is over the examples of all processes."""

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or _alone or not dist.is_initialized():
            return super().forward(inputs)
        self._check_input_dim(inputs)
        axes = [axis for axis in range(inputs.ndim) if axis != 1]
        values = inputs.float()
        count = values.new_full((1,), values.numel() / values.shape[1])
        sums = across.all_reduce(torch.cat([values.sum(axes), count]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = values - _as_channels(mean, values)
        variance = across.all_reduce(centred.square().sum(axes)) / count
        self._remember(mean.detach(), variance.detach(), count)
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        result = centred * _as_channels(scale, values)
        if self.bias is not None:
            result = result + _as_channels(self.bias, values)
        return result.to(inputs.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics, as torch's batch norm does: with the unbiased variance."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        factor: Any = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), factor)
        unbiased = variance * (count / (count - 1).clamp(min=1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), factor)


def _as_channels(values: Tensor, like: Tensor) -> Tensor:
    """Return one value per channel in a shape that goes with (N, C, ...)."""
    return values.view(1, -1, *[1] * (like.ndim - 2))
