"""How soon do the first updates undo a loss at init that is too high?"""

from __future__ import annotations

import itertools

import torch

from tuner.checks.initial_loss.rules import TOO_HIGH
from tuner.checks.start_undone.evidence import StartUndone
from tuner.checks.tools import outputs as _outputs
from tuner.checks.tools.cost import demand
from tuner.checks.tools.frame import (
    CannotProbe,
    DoesNotApply,
    before_training,
    equal_batches,
    forward,
    fresh_model,
    fresh_optimizer,
    random_state,
    train_once,
)
from tuner.checks.tools.heads import head_of
from tuner.core.streams import derive_seed
from tuner.train.setup import Setup

UPDATES = 20


@before_training
def start_undone(setup: Setup) -> StartUndone:
    """Train a fresh model, at the recipe's rate and with its step, while its loss is above that of uniform outputs.

    Asked where the loss of a first batch is above that by the factor of IN102 only.
    """
    head, loss = head_of(setup), setup.loss()
    if setup.data.task.noun != "class":
        raise DoesNotApply("the targets are no classes")
    batches = equal_batches(setup, UPDATES * setup.spec.tables["train"]["batch_size"], "start_undone")
    model = fresh_model(setup)
    inputs, targets = batches[0]
    with random_state(setup.spec.seed), torch.no_grad():
        outputs = forward(model, inputs)
        first = float(loss(outputs, targets))
    uniform = _outputs.value(loss, _outputs.uniform(head.kind, outputs.shape, outputs.device), targets)
    if uniform is None or uniform <= 0:
        raise CannotProbe("the loss has no positive value at uniform outputs to compare with")
    if first <= TOO_HIGH * uniform:
        return StartUndone(first, uniform, UPDATES, 0)
    demand(setup, UPDATES * len(targets), "undoing the start")
    optimizer = fresh_optimizer(setup, model)
    for made, batch in enumerate(itertools.islice(itertools.cycle(batches), UPDATES)):
        with random_state(derive_seed(setup.spec.seed, "start_undone", made)):
            value = train_once(setup, model.train(), batch, loss, optimizer)
        if value < uniform:
            return StartUndone(first, uniform, UPDATES, made)
    return StartUndone(first, uniform, UPDATES)
