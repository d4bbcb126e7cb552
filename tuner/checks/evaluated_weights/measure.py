"""The weights that are evaluated in place of the trained ones: how old they are, and whether statistics fit them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tuner.checks.evaluated_weights.evidence import EvaluatedWeights
from tuner.checks.tools.frame import NORMALISATION, CannotProbe, DoesNotApply, before_training
from tuner.core.errors import TunerError
from tuner.train.points import Points, build
from tuner.train.setup import Setup

MOST_UPDATES = 10_000  # about a second
MOVED = 0.1  # of the way: weights that moved as far would move statistics too

ERRORS = (TunerError, RuntimeError, ValueError, TypeError, IndexError, AttributeError, KeyError, NotImplementedError)


@before_training
def evaluated_weights(setup: Setup, horizons: Mapping[str, int] | None = None) -> EvaluatedWeights:
    """Let the parts that give weights for evaluation hear of every update of each planned run of a tiny net."""
    parts = [part for part in build(setup.parts).parts if "weights_for_evaluation" in part]
    if not parts:
        raise DoesNotApply("the weights that are evaluated are the trained ones")
    first, updates, still = {}, {}, False
    for stage, epochs in (horizons or {"fine": 15}).items():
        total = epochs * setup.updates_per_epoch
        if total > MOST_UPDATES:
            continue
        try:
            weight, moved = _evaluated(_fresh(setup), epochs, setup.updates_per_epoch)
        except ERRORS as error:  # the user's part is made for another model
            raise CannotProbe(f"the part that gives weights for evaluation takes no other net: {error}") from error
        first[stage], updates[stage] = 1 - weight, total
        still |= weight > MOVED and not moved
    if not first:
        raise CannotProbe(f"the planned runs have more than {MOST_UPDATES} updates")
    norms = sum(isinstance(m, NORMALISATION) and m.running_mean is not None for m in setup.model().modules())
    return EvaluatedWeights(first, updates, still, norms)


def _fresh(setup: Setup) -> Points:
    return Points([part for part in build(setup.parts).parts if "weights_for_evaluation" in part])


def _evaluated(points: Points, epochs: int, updates_per_epoch: int) -> tuple[float, bool]:
    """Return the weight, from 0 to 1, that the last epoch evaluates, and whether the statistics moved."""
    layer, norm = nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1)
    model = nn.Sequential(layer, norm)
    mean, var = norm.running_mean, norm.running_var
    assert isinstance(mean, Tensor) and isinstance(var, Tensor)
    batches = [(torch.tensor([[1.0], [3.0]]), torch.zeros(2, dtype=torch.long))]
    _set(layer.weight, 0.0)
    step, weight, moved = 0, 0.0, False
    for epoch in range(1, epochs + 1):
        for _ in range(updates_per_epoch):
            step += 1
            if step == 2:
                for item, value in ((layer.weight, 1.0), (mean, 1.0), (var, 2.0)):
                    _set(item, value)
            points.after_update(
                model=model, step=step, total_steps=epochs * updates_per_epoch, steps_per_epoch=updates_per_epoch
            )
        with points.evaluated(model, batches=batches, epoch=epoch, epochs=epochs):
            weight = float(layer.weight.detach())
            moved = (float(mean), float(var)) != (0.0, 1.0)
    return weight, moved


@torch.no_grad()
def _set(item: Tensor, value: float) -> None:
    item.fill_(value)
