"""Evaluation of the fresh model: is it repeatable, and is each example judged by itself?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tuner.checks.neighbours.evidence import Neighbours
from tuner.checks.tools.cost import affordable
from tuner.checks.tools.evaluations import _differs
from tuner.checks.tools.frame import CannotProbe, before_training, forward, one_batch, random_state, shaken_model
from tuner.train.setup import Setup


@before_training
def neighbours(setup: Setup) -> Neighbours:
    """Swap the examples before and after a part of an eval-mode batch: its own outputs must stay as they are.

    On both sides, since what runs along the batch, as a recurrent layer that takes it for time, only looks back. And
    put the part first, with the same examples beside it: what counts the rows of a batch as positions is moved.
    """
    inputs, _ = one_batch(setup, affordable(setup, 48), "neighbours")
    part = len(inputs) // 3
    if part < 2:
        raise CannotProbe(f"only {len(inputs)} train examples")
    model = shaken_model(setup).eval()
    kept, one, other = inputs[:part], inputs[part : 2 * part], inputs[2 * part : 3 * part]
    if torch.equal(one, other):
        raise CannotProbe("the examples are all the same")
    half, outputs = part // 2, []
    batches = [torch.cat([around[:half], kept, around[half:]]) for around in (one, other)]
    for batch in (*batches, torch.cat([kept, one])):
        with random_state(0):
            outputs.append(forward(model, batch))
    axis = _axis(model, kept, outputs[0].shape, 2 * part)
    if axis is None:
        return Neighbours(differ=None, outputs=len(outputs[0]), inputs=2 * part)
    first, second, third = (given.narrow(axis, at, part) for given, at in zip(outputs, (half, half, 0), strict=True))
    differ, moved = _differs(first, second), _differs(first, third)
    return Neighbours(differ=differ, outputs=2 * part, inputs=2 * part, moved=moved)


def _axis(model: nn.Module, some: Tensor, shape: torch.Size, count: int) -> int | None:
    """Return the dimension of the outputs that examples are on: the first, or in (T, N, C) the second; else None.

    The second must follow the number of examples, and the first stay.
    """
    if len(shape) == 3 and shape[1] == count:
        with random_state(0):
            fewer = forward(model, some).shape
        if len(fewer) == 3 and fewer[1] == len(some) and fewer[0] == shape[0]:
            return 1
    return 0 if shape[0] == count else None
