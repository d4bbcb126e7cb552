"""One training step, instrumented: is everything that should move moved, and nothing left over?"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tuner.checks.tools.cost import affordable
from tuner.checks.tools.frame import (
    Batch,
    CannotProbe,
    fresh_model,
    fresh_optimizer,
    one_batch,
    random_state,
    train_once,
)
from tuner.core.streams import derive_seed
from tuner.train.setup import Setup

Gradient = Mapping[str, Tensor | None]
Keep = Callable[[Gradient], Any]
# an accumulating step may skip updates; one that made none in this many calls makes none
MOST_CALLS = 64
PIECE = 1 << 20  # values


def copied(gradients: Gradient) -> Gradient:
    """Return a copy of the gradients of all parameters."""
    return {name: None if g is None else g.clone() for name, g in gradients.items()}


class _Watch:
    """Counts an optimizer's updates and keeps the gradients that each of them saw; also which others made updates."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, keep: Keep) -> None:
        self.named = dict(model.named_parameters())
        self.keep = keep
        self.gradients: list[Any] = []
        self.others: list[torch.optim.Optimizer] = []  # kept, so that no two have one id
        self.entries: list[tuple[int, int]] = []  # of the optimizer's state, before and after each update
        self.calls = 0
        self.called: list[int] = []  # how many calls of the step had been made at each update
        self.rates: list[tuple[float, float]] = []  # before and after each update
        self.optimizer = optimizer
        self.hooks = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
            register_optimizer_step_pre_hook(self.any_step),
        ]

    def _before(self, *_: Any) -> None:
        seen = {name: None if p.grad is None else p.grad.detach() for name, p in self.named.items()}
        self.gradients.append(self.keep(seen))
        self.entries.append((_entries(self.optimizer), 0))
        self.called.append(self.calls)
        self.rates.append((self.rate, self.rate))

    def _after(self, *_: Any) -> None:
        self.rates[-1] = (self.rates[-1][0], self.rate)
        self.entries[-1] = (self.entries[-1][0], _entries(self.optimizer))

    def any_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Hear of every optimizer's step; one that steps groups of the recipe's own is a part of that one."""
        own = {id(group) for group in self.optimizer.param_groups}
        if optimizer is self.optimizer or all(id(group) in own for group in optimizer.param_groups):
            return
        if all(optimizer is not other for other in self.others):
            self.others.append(optimizer)

    @property
    def rate(self) -> float:
        """The largest rate of the optimizer's groups."""
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    @property
    def rates_set(self) -> list[float]:
        """The rates of the updates, where they change between updates: an optimizer's own step may move its rate."""
        changed = [before != after for (_, after), (before, _) in itertools.pairwise(self.rates)]
        return [before for before, _ in self.rates] if any(changed) else []

    @property
    def state_lost(self) -> bool:
        """Whether state that an update left was gone at the next one."""
        return any(after > 0 and before == 0 for (_, after), (before, _) in itertools.pairwise(self.entries))


def _entries(optimizer: torch.optim.Optimizer) -> int:
    """Count the parameters that the optimizer remembers something of."""
    return sum(any(value is not None for value in entry.values()) for entry in optimizer.state.values())


def step_size(setup: Setup) -> int:
    """Return how many examples the batches of an instrumented step have: the recipe's, as far as that is affordable."""
    return affordable(setup, min(64, setup.spec.tables["train"]["batch_size"]), trained=True)


def dot(first: Gradient, second: Gradient) -> float:
    """Return the inner product over the parameters that both have a gradient for, summed in double precision."""
    pairs = ((a, b) for name, a in first.items() if a is not None and (b := second.get(name)) is not None)
    return sum(float((a.double() * b).sum()) for a, b in in_pieces(pairs))


def in_pieces(pairs: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Give pairs of tensors of one shape in flat pieces, so that double precision takes little memory."""
    for a, b in pairs:
        yield from zip(a.reshape(-1).split(PIECE), b.reshape(-1).split(PIECE), strict=True)


def updates_of(
    setup: Setup,
    updates: int,
    *,
    at_rest: bool,
    batch: Batch | Callable[[int], Batch] | None = None,
    keep: Keep | None = None,
) -> tuple[nn.Module, Any, _Watch, list[bool]]:
    """Make a number of updates on one batch; `at_rest`: with rate and decay 0, so that nothing moves.

    `keep`: makes of the gradients that an update sees what is kept of them, which is a copy otherwise. A `batch` that
    is a function gives the batch of each call of the step, by its number; the random state is then of each call too.
    """
    model, loss = fresh_model(setup), setup.loss()
    optimizer = fresh_optimizer(setup, model, decay=not at_rest)
    if isinstance(optimizer, torch.optim.LBFGS):
        raise CannotProbe("LBFGS calls the loss many times within one step")
    if at_rest:
        for group in optimizer.param_groups:
            group["lr"] = torch.zeros_like(group["lr"]) if isinstance(group["lr"], Tensor) else 0.0
    watch = _Watch(model, optimizer, keep or copied)
    if batch is None:
        batch = one_batch(setup, step_size(setup), "step")
    modes: list[bool] = []
    watch.hooks.append(model.register_forward_pre_hook(lambda module, _: modes.append(module.training)))
    try:
        while watch.calls < MOST_CALLS and len(watch.gradients) < updates and len(watch.others) < updates:
            watch.calls += 1
            own = callable(batch)
            given = batch(watch.calls) if callable(batch) else batch
            with random_state(derive_seed(setup.spec.seed, "probe", watch.calls) if own else setup.spec.seed):
                train_once(setup, model, given, loss, optimizer)
    finally:
        for hook in watch.hooks:  # objects that know each other would keep the model until garbage is collected
            hook.remove()
    return model, optimizer, watch, modes
