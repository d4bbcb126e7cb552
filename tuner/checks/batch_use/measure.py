"""Whether an update depends on all of its batch, and the loss on every class."""

from __future__ import annotations

import math

import torch

from tuner.checks.batch_use.evidence import BatchUse
from tuner.checks.gradient_seen.measure import gradient_on
from tuner.checks.tools.frame import Batch, CannotProbe, before_training, gathered, sample, takes
from tuner.checks.tools.updates import Gradient, dot, in_pieces, step_size
from tuner.train.setup import Setup

ROUNDS = 3  # batches, in all of which it must be the same half that is not used
SAME = 1e-4  # of the gradient's norm: rounding in single precision


@before_training
@takes(9)
def batch_use(setup: Setup) -> BatchUse:
    """Put other examples in the place of either half of a batch: the gradient that the update sees must change."""
    size = min(step_size(setup), setup.data.size("train") // 2)  # two batches that share no example
    if size < 4:
        raise CannotProbe(f"batches of {size}")
    idle = {0, 1}
    for index in range(ROUNDS):
        drawn = sample(setup, 2 * size, f"batch use {index}")
        batch, other = (gathered(setup, "train", drawn[which::2]) for which in (0, 1))
        plain = gradient_on(setup, batch)[0]
        room = SAME * math.sqrt(dot(plain, plain))
        if not room or not math.isfinite(room):
            raise CannotProbe("the update has no gradient, or none that is finite")
        for half in sorted(idle):
            changed = gradient_on(setup, _with_half(batch, other, half))[0]
            if _apart(plain, changed) > room:
                idle.discard(half)
        if not idle:
            break
    return BatchUse(idle=sorted(idle), batch_size=size)


def _with_half(batch: Batch, other: Batch, half: int) -> Batch:
    middle = len(batch[1]) // 2
    parts = ((other, batch), (batch, other))[half]
    inputs, targets = (torch.cat([parts[0][i][:middle], parts[1][i][middle:]]) for i in (0, 1))
    return inputs, targets


def _apart(first: Gradient, second: Gradient) -> float:
    """Return the distance of two gradients; infinite where one has a parameter that the other lacks."""
    pairs = [(first[name], second[name]) for name in first]
    if any((a is None) != (b is None) for a, b in pairs):
        return math.inf
    there = ((a, b) for a, b in pairs if a is not None and b is not None)
    return math.sqrt(sum(float((a.double() - b).square().sum()) for a, b in in_pieces(there)))
