"""A stack proves itself: what it computes of its own first batches is, bit for bit, what its trials compute alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from tuner.core.errors import first_line
from tuner.core.signals import ends_the_command
from tuner.core.stacking import Stacking, why_single
from tuner.core.trial import WorkItem
from tuner.train.forward import How, forward
from tuner.train.loop import batches_of, take_step
from tuner.train.setup import Setup
from tuner.train.stacked.layers import Unstackable, chain_of
from tuner.train.stacked.stack import Member, Stack, member_of, train_step
from tuner.train.state import Tape, start
from tuner.train.stores import ArrayStore

SIZES = (16, 8, 4)  # of stacks that are tried, the most that wait for one another first
STEPS = 8  # that are timed
MOST_WEIGHTS = 500_000  # of a model whose step may be held up by the calls
LONG_SECONDS = 2e-3  # a step that takes longer is arithmetic
PAYS = 1.15  # times as fast as trial by trial: less is lost where stacks of unequal trials wait for each other


def check_data(setup: Setup) -> None:
    """Refuse data that a stack cannot read.

    Raises:
        Unstackable: examples are made when they are read, or are several tensors; a batch is one example.
    """
    if min(setup.batch_size, setup.data.size("train")) == 1:
        raise Unstackable("a batch is one example")
    if not setup.data.is_one or not isinstance(setup.data.part("train").store, ArrayStore):
        raise Unstackable("examples are made when they are read, or are more than one array")


def prove(stack: Stack) -> None:
    """Compare objectives and gradients of three trials on a whole batch and on the last of an epoch.

    Raises:
        Unstackable: "differs": here a product of many matrices is not, to the last bit, that of each.
    """
    last = stack.members[0].setup.updates_per_epoch - 1
    for inputs, targets in stack.batches((0, last)):
        values, _ = stack.gradients(inputs, targets)
        count = len(stack.members)
        for k in sorted({0, count // 2, count - 1}):
            _compare(stack.members[k], values[k], inputs[k], targets[k])


def _compare(member: Member, value: Tensor, inputs: Tensor, targets: Tensor) -> None:
    parameters = list(member.training.model.parameters())
    written = [item.grad for item in parameters]
    alone = forward(member.training.model.train(), (inputs, targets), member.training.loss, How())
    grads = torch.autograd.grad(alone.backward, parameters)
    same = all(ours is not None and torch.equal(ours, grad) for ours, grad in zip(written, grads, strict=True))
    if not same or not torch.equal(value, alone.objective):
        raise Unstackable("the arithmetic of a stack differs from that of a trial by itself on this machine")


def measured(setup: Setup) -> Stacking:
    """Return whether stacks of the recipe's own configuration pay, by timing training steps both ways."""
    why = why_single(setup.spec)
    if why is not None:
        return Stacking(why=why)
    try:
        check_data(setup)
        alone = _seconds_alone(setup)
        if alone > LONG_SECONDS:
            raise Unstackable(f"a training step of {1000 * alone:.0f} ms is not held up by calls")
        found = {size: _seconds_stacked(setup, size) for size in SIZES}
    except Unstackable as error:
        return Stacking(why=str(error))
    except BaseException as error:  # it only saves time
        if ends_the_command(error):
            raise
        return Stacking(why=first_line(error))
    size = min(found, key=lambda size: found[size])
    times = alone / found[size]
    if times < PAYS:
        return Stacking(1, times, "training them as one takes as long")
    return Stacking(size, times)


def _seconds_alone(setup: Setup) -> float:
    """Return the seconds of a training step of one trial.

    Raises:
        Unstackable: the model is no chain of layers that have a stacked form, or a large one.
    """
    training, tape = start(setup), Tape()
    chain_of(training.model)
    weights = sum(item.numel() for item in training.model.parameters())
    if weights > MOST_WEIGHTS:
        raise Unstackable(f"a model of {weights:,} weights is not held up by calls")
    return _least(partial(take_step, setup, training, batches, tape) for batches in batches_of(setup, training, 1))


def _seconds_stacked(setup: Setup, size: int) -> float:
    """Return the seconds of a step of a stack, for each of its trials."""
    stack = Stack([member_of(WorkItem(setup.spec, 0), setup) for _ in range(size)])
    prove(stack)
    tapes = [Tape() for _ in range(size)]
    return _least(partial(train_step, stack, tapes, *batch, ended={}) for batch in stack.batches()) / size


def _least(steps: Iterator[Callable[[], None]]) -> float:
    """Return the seconds of the fastest of the first steps, reading their batches included."""
    found = []
    for _ in range(STEPS):
        clock = time.perf_counter()
        step = next(steps, None)
        if step is None:
            break
        step()
        found.append(time.perf_counter() - clock)
    return min(found)
