"""One training step, instrumented: is everything that should move moved, and nothing left over?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tuner.checks.fresh_gradients.evidence import FreshGradients
from tuner.checks.tools.frame import CannotProbe, before_training, fresh_model
from tuner.checks.tools.updates import MOST_CALLS, updates_of


@before_training
def fresh_gradients(setup: Any) -> FreshGradients:
    """Repeat one step with the rate at 0: each update must see the same gradient, none left over from the last.

    `ratios`: the norm of each update's gradient over the first one's; 1, 2, 3 means that they add up.
    """
    before = {name: p.detach().clone() for name, p in fresh_model(setup).named_parameters()}
    _, optimizer, watch, _ = updates_of(setup, 3, at_rest=True)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    seen_by = [{n: g for n, g in seen.items() if id(watch.named[n]) in held} for seen in watch.gradients]
    if len(watch.gradients) < 3:
        raise CannotProbe(f"the training step made {len(watch.gradients)} updates in {MOST_CALLS} calls")
    if not any(g is not None for g in seen_by[0].values()):
        raise CannotProbe("the optimizer holds no parameter of the model that has a gradient")
    flat = [torch.cat([g.flatten().double() for g in seen.values() if g is not None]) for seen in seen_by]
    growing = [name for name in seen_by[0] if _adds_up([seen[name] for seen in seen_by])]
    norm = float(flat[0].norm())
    if not norm or len({len(g) for g in flat}) != 1:
        raise CannotProbe("the first update has no gradient to compare with")
    return FreshGradients(
        growing=growing,
        rounded=[name for name, p in watch.named.items() if _rounded(before[name], p.detach())],
        ratios=[float(g.norm()) / norm for g in flat],
        cosines=[float(torch.dot(g, flat[0]) / (g.norm() * norm).clamp_min(1e-300)) for g in flat],
    )


def _rounded(before: Tensor, after: Tensor) -> bool:
    """Say whether a weight tensor has far fewer different values after steps that should have left it as it is."""
    if before.ndim < 2 or before.numel() < 100 or torch.equal(before, after):
        return False
    return 5 * len(after.unique()) < len(before.unique())


def _adds_up(gradients: list[Tensor | None]) -> bool:
    """Say whether one parameter's gradients are one, two and three times the first."""
    there = [g for g in gradients if g is not None]
    if len(there) != 3 or not bool((there[0] != 0).any()):
        return False
    room = 0.02 * float(there[0].abs().max())
    return all(torch.allclose(g, k * there[0], rtol=0.02, atol=room) for k, g in enumerate(there, 1))
