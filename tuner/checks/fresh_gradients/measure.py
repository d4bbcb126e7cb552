"""One training step, instrumented: is everything that should move moved, and nothing left over?"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tuner.checks.fresh_gradients.evidence import FreshGradients
from tuner.checks.tools.frame import CannotProbe, before_training, fresh_model, fresh_optimizer, takes
from tuner.checks.tools.updates import MOST_CALLS, PIECE, Gradient, copied, dot, in_pieces, updates_of
from tuner.train.setup import Setup


@before_training
@takes(5)
def fresh_gradients(setup: Setup) -> FreshGradients:
    """Repeat one step with the rate at 0: each update must see the same gradient, none left over from the last."""
    model = fresh_model(setup)
    compared = _Compared(_held(setup, model))
    _, _, watch, _ = updates_of(setup, 3, at_rest=True, keep=compared.hear)
    if len(watch.gradients) < 3:
        raise CannotProbe(f"the training step made {len(watch.gradients)} updates in {MOST_CALLS} calls")
    if not any(g is not None for g in compared.first.values()):
        raise CannotProbe("the optimizer holds no parameter of the model that has a gradient")
    norm = math.sqrt(compared.squares[0])
    if not norm or len(set(compared.sizes)) != 1:
        raise CannotProbe("the first update has no gradient to compare with")
    norms = [math.sqrt(square) for square in compared.squares]
    before = dict(model.named_parameters())
    return FreshGradients(
        growing=[name for name in compared.first if name in compared.growing],
        rounded=[name for name, p in watch.named.items() if _rounded(before[name].detach(), p.detach())],
        ratios=[size / norm for size in norms],
        cosines=[inner / max(size * norm, 1e-300) for inner, size in zip(compared.inner, norms, strict=True)],
    )


def _held(setup: Setup, model: nn.Module) -> set[str]:
    """Return the names of the parameters that the recipe's optimizer holds."""
    known = {id(p) for group in fresh_optimizer(setup, model).param_groups for p in group["params"]}
    return {name for name, p in model.named_parameters() if id(p) in known}


class _Compared:
    """Holds each update's gradient against the first one's, of which alone a copy is kept."""

    def __init__(self, held: set[str]) -> None:
        self.held = held
        self.first: Gradient = {}
        self.squares: list[float] = []
        self.inner: list[float] = []
        self.sizes: list[int] = []
        self.growing: set[str] = set()

    def hear(self, gradients: Gradient) -> int:
        """Compare the gradients of an update; return its number, from 1."""
        seen = {name: g for name, g in gradients.items() if name in self.held}
        number = len(self.squares) + 1
        if number == 1:
            self.first = copied(seen)
            self.growing = {name for name, g in seen.items() if g is not None and bool((g != 0).any())}
        self.growing = {name for name in self.growing if _is_times(number, self.first[name], seen[name])}
        self.squares.append(dot(seen, seen))
        self.inner.append(dot(seen, self.first))
        self.sizes.append(sum(g.numel() for g in seen.values() if g is not None))
        return number


def _is_times(number: int, first: Tensor | None, gradient: Tensor | None) -> bool:
    """Return whether a gradient is so many times the first one."""
    if first is None or gradient is None:
        return False
    room = 0.02 * float(torch.linalg.vector_norm(first, math.inf))
    return all(torch.allclose(b, number * a, rtol=0.02, atol=room) for a, b in in_pieces([(first, gradient)]))


def _rounded(before: Tensor, after: Tensor) -> bool:
    """Return whether a weight tensor has far fewer different values after steps that should have left it as it is."""
    if before.ndim < 2 or before.numel() < 100 or torch.equal(before, after):
        return False
    some = slice(PIECE)  # of a large tensor: all of its values would be sorted
    return 5 * len(after.reshape(-1)[some].unique()) < len(before.reshape(-1)[some].unique())
