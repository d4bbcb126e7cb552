"""One trial on several devices: a process for each holds the same weights, and has its share of every batch.

What one device would do is done, up to the order in which numbers are summed. The loss is taken of the outputs of the
whole batch, which every process gathers, so that it need not be a mean over examples; each goes backward from there
through its own share, and DistributedDataParallel sums what the shares give for the weights. The first process
evaluates, and tells the others what came of it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tuner.core.errors import UsageError
from tuner.core.trial import Rank
from tuner.train.evaluate import as_float
from tuner.train.forward import Batch, Forward, How
from tuner.train.nested import mapped
from tuner.train.shares import Share

PATIENCE = timedelta(days=7)  # who hangs is found, and ended, by the supervisor
HINT = "Leave train.devices_per_trial out."


@contextlib.contextmanager
def met(rank: Rank | None, device: str) -> Iterator[None]:
    """Within the block the processes of a trial are in touch; one that raises stays so, until it is ended."""
    if rank is None:
        yield
        return
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    if any(name == loopback for _, name in getattr(socket, "if_nameindex", list)()):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)  # all of them are on this machine
    backend = "gloo"
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    where = f"file://{rank.meeting}"
    dist.init_process_group(backend, init_method=where, rank=rank.number, world_size=rank.count, timeout=PATIENCE)
    yield
    dist.destroy_process_group()


def told(value: Any) -> Any:
    """Return in every process the plain value that the first one has."""
    box = [value]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


class Together:
    """Takes shares of batches forward. Wraps the model anew where an epoch trains other weights of it."""

    def __init__(self, model: nn.Module, loss: Callable[[Any, Tensor], Tensor], rank: Rank) -> None:
        self.model, self.loss, self.rank = model, loss, rank
        self._trained: list[bool] = []
        self._wrapped: DistributedDataParallel | None = None

    def examples(self, batch: Batch) -> int:
        """Return how many examples the whole batch has."""
        return batch.examples if isinstance(batch, Share) else len(batch[1])

    def __call__(self, batch: Batch, how: How, is_last: bool) -> Forward:
        """Take a share forward; the gradients are summed where it is of the last batch of an update.

        Raises:
            UsageError: "does not have one row per example".
        """
        trained = [item.requires_grad for item in self.model.parameters()]
        if self._wrapped is None or trained != self._trained:
            self._trained = trained
            self._wrapped = _Parallel(_Objective(self), find_unused_parameters=True)
        with contextlib.nullcontext() if is_last else self._wrapped.no_sync():
            backward, objective, outputs, targets = self._wrapped(batch, how)
        return Forward(backward, objective, outputs, targets)


class _Parallel(DistributedDataParallel):
    """DistributedDataParallel without its advice not to look for weights that a forward pass leaves out.

    Which weights a model of the user's own leaves out is not known, and may differ from step to step.
    """

    def _post_forward(self, output: Any) -> Any:
        with without_stderr():  # nothing of the user's runs here
            return super()._post_forward(output)


@contextlib.contextmanager
def without_stderr() -> Iterator[None]:
    """Drop what native code writes to stderr within the block; it asks nobody but the descriptor."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class _Objective(nn.Module):
    """The model with all that leads from a share of a batch to what is gone backward from.

    DistributedDataParallel takes the mean of the gradients over the processes, hence the factors.
    """

    def __init__(self, of: Together) -> None:
        super().__init__()
        self.model, self.loss, self.rank = of.model, of.loss, of.rank

    def forward(self, batch: Batch, how: How) -> tuple[Tensor, Tensor, Any, Tensor]:
        inputs, targets = batch
        with how.autocast():
            outputs = as_float(self.model(inputs))
        sizes = batch.sizes if isinstance(batch, Share) else None
        if sizes is None:  # every process has the whole batch
            whole, all_targets, factor, share = outputs, targets, 1, 1 / self.rank.count
        else:
            whole = mapped(lambda rows: self._gathered(rows, sizes), outputs)
            all_targets = self._gathered(targets, sizes)
            factor, share = self.rank.count, sizes[self.rank.number] / sum(sizes)
        objective = self.loss(whole, all_targets)
        backward, value = objective * factor, objective.detach()
        extra = how.penalty(model=self.model, outputs=outputs, inputs=inputs, targets=targets)
        if extra is not None:
            backward = backward + extra * (self.rank.count * share)
            shared = extra.detach() * share
            dist.all_reduce(shared)
            value = value + shared
        return backward, value, mapped(Tensor.detach, whole), all_targets

    def _gathered(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """Return the rows of all processes."""
        own = sizes[self.rank.number]
        if rows.ndim == 0 or len(rows) % own:
            text = f"train.devices_per_trial: an output of shape {tuple(rows.shape)} does not have one row per example"
            raise UsageError(f"{text} of a share of {own}", HINT)
        per_example = len(rows) // own
        counts = [size * per_example for size in sizes]
        return _Gathered.apply(rows, counts, self.rank.number)


class _Gathered(torch.autograd.Function):
    """The rows of all processes in their order; gradients go back to the own ones."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: Sequence[int], number: int) -> Tensor:
        ctx.own = slice(sum(counts[:number]), sum(counts[: number + 1]))
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0][ctx.own], None, None
