"""How much a measurement may ask of a model: a bound in arithmetic, so that it is the same on every machine.

What is counted are the floating-point operations of the model's forward on one example. A measurement takes fewer
examples of a large model, and says how many in its evidence; one that cannot do with so few says why it is not made.
"""

from __future__ import annotations

from typing import Any

import torch

from tuner.checks.tools.frame import CannotProbe
from tuner.train import operations
from tuner.train.device import generators_kept
from tuner.train.setup import Setup

FORWARD = 6e10  # floating-point operations of one pass over the examples: a second on two cores
FEWEST = 8  # examples that a forward has in any case, where there are as many
MANY = 64  # examples
TRAINED = 3  # a step forwards and backwards is three forwards
FEWEST_TRAINED = 4
TRAINING = 5e12  # operations of a measurement that trains until something is learnt: a minute on two cores
_last: tuple[Any, float] | None = None


def affordable(setup: Setup, count: int, trained: bool = False) -> int:
    """Return how many of `count` examples a measurement may push through the model at once; `trained`: and back."""
    per_example = _operations(setup) * (TRAINED if trained else 1)
    fewest = FEWEST_TRAINED if trained else FEWEST
    return count if per_example <= 0 else min(count, max(fewest, int(FORWARD / per_example)))


def is_large(setup: Setup) -> bool:
    """Return whether a forward over some examples is more than a measurement is given."""
    return affordable(setup, MANY) < MANY


def demand(setup: Setup, examples: int, doing: str) -> None:
    """Refuse a measurement that pushes so many examples forwards and back where the model is too large for it.

    Raises:
        CannotProbe: "would take up to ... of the model's own training steps".
    """
    needed = TRAINED * examples * _operations(setup)
    if needed > TRAINING:
        steps = examples / setup.spec.tables["train"]["batch_size"]
        allowed = TRAINING / needed * steps
        raise CannotProbe(
            f"{doing} would take up to {steps:,.0f} of the model's own training steps, and a measurement may take "
            f"{allowed:,.1f} of a model as large as this"
        )


def _operations(setup: Setup) -> float:
    """Return the floating-point operations of a forward per example; 0 where they cannot be counted."""
    global _last
    if _last is not None and _last[0] is setup:
        return _last[1]
    counted = operations.counter()
    try:
        some = torch.arange(min(2, setup.data.size("train")))
        inputs, targets = next(iter(setup.data.batches("train", 2, indices=some)))
        with torch.no_grad(), generators_kept(), counted:
            setup.model()(inputs)
        found = counted.get_total_flops() / max(1, len(targets))
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, NotImplementedError):
        found = 0.0  # what is wrong with the model is said by the measurements themselves
    _last = (setup, found)
    return found
