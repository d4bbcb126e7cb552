"""The loss before any update, and what the loss function itself says: at uniform outputs, at its floor."""

from __future__ import annotations

import math

from tuner.checks.loss_function.evidence import LossFunction
from tuner.checks.tools import outputs as _outputs
from tuner.checks.tools.frame import CannotProbe, before_training, one_batch
from tuner.checks.tools.heads import head_of
from tuner.train.setup import Setup


@before_training
def loss_function(setup: Setup) -> LossFunction:
    """Find how low the loss can go over free outputs, and over outputs squashed as the model's are.

    A gap between the two is a floor under training that no weights get below: softmax, sigmoid or tanh before a loss
    that does its own.
    """
    head, loss = head_of(setup), setup.loss()
    _, targets = one_batch(setup, 64, "loss_function")
    kind, shape = head.kind, head.of(len(targets))
    if len(shape) == 2 and 1 < shape[1] < setup.data.num_classes:
        raise CannotProbe(f"the model has {shape[1]} outputs for {setup.data.num_classes} classes")
    free = _outputs.floor(loss, targets, shape, "logits")
    own = free if kind == "logits" else _outputs.floor(loss, targets, shape, kind)
    return LossFunction(
        kind=kind,
        uniform=_outputs.value(loss, _outputs.uniform(kind, shape, targets.device), targets),
        free_floor=free if free is None or math.isfinite(free) else None,
        free_unbounded=free == -math.inf,
        own_floor=own if own is None or math.isfinite(own) else None,
        own_unbounded=own == -math.inf,
        unpaired=_outputs.ignores_pairing(loss, targets, shape, kind),
        untouched=_outputs.ignores_targets(loss, targets, shape, kind),
        rewards_wrong=_outputs.rewards_wrong(loss, targets, shape, kind),
        over_batch=_outputs.over_batch(loss, targets, shape) if kind == "logits" else None,
        loss_name=setup.spec.tables["loss"]["name"],
    )
