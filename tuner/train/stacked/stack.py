"""Trials that train side by side: one epoch of all of them, with one call for what they do alike."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tuner.core.trial import WorkItem
from tuner.tasks.classification import Classification
from tuner.train.loop import Course, OnStep, end_row, latest, step_schedule
from tuner.train.setup import Setup
from tuner.train.stacked.layers import go_back, stacked
from tuner.train.stacked.objective import is_plain, objectives
from tuner.train.stacked.updates import Update
from tuner.train.state import Tape, Training, grad_norm, start
from tuner.train.stores import ArrayStore

TELL_SECONDS = 0.3
FEW_VALUES = 1 << 22  # of a data set's inputs: 16 MiB as float32


@dataclass(eq=False)
class Member:
    """A trial in a stack. `seconds`: its share of what the stack has taken so far."""

    item: WorkItem
    setup: Setup
    training: Training
    course: Course
    on_step: OnStep | None = None
    seconds: float = 0.0

    @property
    def clip_norm(self) -> float | None:
        return self.setup.tables["train"].get("clip_norm")


def member_of(item: WorkItem, setup: Setup, on_step: OnStep | None = None) -> Member:
    """Build a trial's training, at its saved state where there is one."""
    training = start(setup)
    return Member(item, setup, training, Course(setup, training, item.until_epoch, on_step), on_step)


class Stack:
    """The trainings of several trials, of which the models see one array of weights.

    Raises:
        Unstackable: see `tuner.train.stacked.layers`.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        self.layers = stacked([member.training.model for member in members])
        self.updates = [Update(member.training) for member in members]
        self.losses = [member.training.loss for member in members]
        self.examples = Examples(members[0].setup)
        self.plain = self.examples.all_count and all(is_plain(member.setup.tables["loss"]) for member in members)

    def gradients(self, inputs: Tensor, targets: Tensor) -> tuple[list[Tensor], Tensor]:
        """Write the gradients of every trial's weights; return the objectives and the outputs, (K, N, ...)."""
        outputs = inputs
        for layer in self.layers:
            outputs = layer(outputs)
        values, grads = objectives(outputs, targets, self.losses, self.plain)
        go_back(outputs, grads)
        return values, outputs.detach()

    def batches(self, steps: Sequence[int] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the batches of every trial's next epoch side by side: inputs (K, N, ...), targets (K, N, ...).

        `steps`: the numbers of those that are wanted, from 0; None: all. Trials of one order see one batch.
        """
        data, size, count = self.members[0].setup.data, self.members[0].setup.batch_size, len(self.members)
        drawn = [(member.setup.spec.seed, member.course.epoch) for member in self.members]
        orders = {one: data.order(*one).split(size) for one in dict.fromkeys(drawn)}
        places = torch.tensor([list(orders).index(one) for one in drawn])
        for step in range(data.steps_per_epoch(size)) if steps is None else steps:
            inputs, targets = self.examples([order[step] for order in orders.values()])
            if len(orders) == 1:
                yield inputs.expand(count, *inputs.shape[1:]), targets.expand(count, *targets.shape[1:])
            elif len(orders) == count:
                yield inputs, targets
            else:
                yield inputs.index_select(0, places), targets.index_select(0, places)


class Examples:
    """Reads examples of train for several trials at once; normalised beforehand where they are few."""

    def __init__(self, setup: Setup) -> None:
        self.data, self.store = setup.data, setup.data.part("train").store
        self.all_count = int(setup.data.targets("train").min()) >= 0
        assert isinstance(self.store, ArrayStore)
        few = len(self.store) * self.store.read(torch.zeros(1, dtype=torch.int64))[0].numel() < FEW_VALUES
        self._whole = self._read(torch.arange(len(self.store))) if few else None

    def __call__(self, positions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the examples at each of K lists of N positions: inputs (K, N, ...), targets (K, N, ...)."""
        joined, count = torch.cat(list(positions)), len(positions)
        if self._whole is None:
            inputs, targets = self._read(joined)
        else:
            inputs, targets = (part.index_select(0, joined) for part in self._whole)
        return inputs.unflatten(0, (count, -1)), targets.unflatten(0, (count, -1))

    def _read(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        inputs, targets = self.store.read(positions)
        return self.data.finish(inputs, targets, None)


def train_epoch(stack: Stack) -> None:
    """Train every trial for one epoch, its next; add the row of each, or the divergence that ended it."""
    tapes = [Tape(member.training.scorer) for member in stack.members]
    ended: dict[int, Tensor | None] = {}
    for member in stack.members:
        member.training.model.train()
    told_at, steps = time.monotonic(), stack.members[0].setup.updates_per_epoch
    for index, (inputs, targets) in enumerate(stack.batches()):
        train_step(stack, tapes, inputs, targets, ended)
        if len(ended) == len(stack.members):
            break
        if time.monotonic() - told_at > TELL_SECONDS:
            told_at = time.monotonic()
            tell(stack, (index + 1) / steps)
    for k, member in enumerate(stack.members):
        end_row(member.training, member.course.epoch, tapes[k], ended.get(k))


def train_step(
    stack: Stack, tapes: Sequence[Tape], inputs: Tensor, targets: Tensor, ended: dict[int, Tensor | None]
) -> None:
    """Make one step of every trial that has not `ended`: {trial: the norm of its gradients when it diverged}."""
    values, outputs = stack.gradients(inputs, targets)
    finite = torch.stack(values).isfinite().tolist()
    judge(stack, tapes, outputs, targets, ended)
    for k, member in enumerate(stack.members):
        if k in ended:
            continue
        update(member, stack.updates[k], tapes[k], (values[k], targets.shape[1]))
        if not finite[k]:
            ended[k] = tapes[k].grad_norm if tapes[k].grad_norm is not None else grad_norm(member.training.model)


def update(member: Member, step: Update, tape: Tape, found: tuple[Tensor, int]) -> None:
    """Update one trial's weights by the gradients that the stack has written; note the objective and batch size."""
    training = member.training
    lr = training.optimizer.param_groups[0]["lr"]
    before = training.updates
    if member.clip_norm is not None:
        tape.grad_norm = nn.utils.clip_grad_norm_(training.model.parameters(), member.clip_norm).detach()
    step()
    if member.setup.schedule_every == "step":
        for _ in range(training.updates - before):
            step_schedule(training)
    tape.write(*found, training.updates, float(lr))


def judge(stack: Stack, tapes: Sequence[Tape], outputs: Tensor, targets: Tensor, ended: Mapping[int, Any]) -> None:
    """Note how many examples each trial had right."""
    of_classes = isinstance(stack.members[0].setup.data.task, Classification)
    if of_classes and outputs.ndim == 3 and outputs.shape[2] > 1 and targets.ndim == 2:
        for k, right in enumerate((outputs.argmax(2) == targets).sum(1).unbind()):
            if k not in ended:
                tapes[k].hit(right)
        return
    for k, tape in enumerate(tapes):
        if k not in ended:
            tape.judge(outputs[k], targets[k])


def tell(stack: Stack, share: float) -> None:
    """Say how far the trials are."""
    for member in stack.members:
        course = member.course
        words = f"epoch {course.epoch}/{course.last}{latest(member.training, member.setup)}"
        if member.on_step is not None:
            member.on_step((course.epoch - 1 + share) / course.last, words)
