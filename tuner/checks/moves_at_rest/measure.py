"""Whether a step of the user's own moves the weights beside the optimizer's updates."""

from __future__ import annotations

from tuner.checks.moves_at_rest.evidence import MovesAtRest
from tuner.checks.tools.frame import CannotProbe, DoesNotApply, before_training, fresh_model, takes
from tuner.checks.tools.updates import dot, updates_of
from tuner.train.setup import Setup


@before_training
@takes(2)
def moves_at_rest(setup: Setup) -> MovesAtRest:
    """Call the user's step at rate 0 until it made an update, and compare the weights with the first ones."""
    if setup.train_step is None:
        raise DoesNotApply("the step is tuner's own")
    before = {name: item.detach().clone() for name, item in fresh_model(setup).named_parameters()}
    model, _, watch, _ = updates_of(setup, 1, at_rest=True)
    if not watch.gradients:
        raise CannotProbe("the step made no update with the recipe's optimizer")
    gradient = watch.gradients[-1]
    move = {name: item.detach() - before[name] for name, item in model.named_parameters()}
    length, size, slope = (dot(a, a) ** 0.5 for a in (move, before, gradient))
    uphill = dot(move, gradient) / (length * slope) if length * slope > 0 else None
    weights = sum(item.numel() for item in gradient.values() if item is not None)
    return MovesAtRest(watch.calls, length / size if size > 0 else 0.0, uphill, weights)
