"""Running a stack: from the work items of several trials to a result of each, as if it had run by itself."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from tuner.core.errors import EnvironmentProblem, first_line
from tuner.core.result import TrialResult
from tuner.core.trial import TrialEnv, WorkItem
from tuner.recipe import registry
from tuner.train.device import peak_memory_bytes, pick_device
from tuner.train.memory import refusal
from tuner.train.setup import Setup, make_setup, resolve_all
from tuner.train.stacked.layers import Unstackable
from tuner.train.stacked.proof import check_data, prove
from tuner.train.stacked.stack import Member, Stack, member_of, train_epoch
from tuner.train.trial import OnProgress, concluded, drop_state, throttled


def run_stack(items: Sequence[WorkItem], env: TrialEnv, on_progress: OnProgress | None = None) -> Iterator[TrialResult]:
    """Train trials as one; give the result of each when it has come to its end, whichever way.

    Raises:
        Unstackable: those whose result was not given are to be trained each by itself, on from what they have saved.
        EnvironmentProblem: the disk is full or the like.
    """
    results = _results(items, env, on_progress)
    while True:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                result = next(results, None)
        except (EnvironmentProblem, Unstackable):
            raise
        except (Exception, SystemExit) as error:  # which of the trials it is of will show when each is by itself
            raise Unstackable(first_line(error)) from error
        if result is None:
            return
        yield result


def _results(items: Sequence[WorkItem], env: TrialEnv, on_progress: OnProgress | None) -> Iterator[TrialResult]:
    started_at, clock = time.time(), time.perf_counter()
    members = _begun(items, replace(env, device=pick_device(env.device)), on_progress)
    for member in members:
        member.seconds = (time.perf_counter() - clock) / len(members)
    stack: Stack | None = None
    while members:
        going = [member for member in members if member.course.goes_on()]
        for member in members:
            if member not in going:
                yield _result(member, started_at, on_progress)
        members = going
        if members:
            stack = _trained(stack, members)


def _trained(stack: Stack | None, members: Sequence[Member]) -> Stack:
    """Train the members for one epoch, as one, and have each evaluate."""
    clock = time.perf_counter()
    if stack is None or stack.members != members:
        stack = Stack(members)
        prove(stack)
    train_epoch(stack)
    share = (time.perf_counter() - clock) / len(members)
    for member in members:
        clock = time.perf_counter()
        member.course.end_epoch()
        member.seconds += share + time.perf_counter() - clock
    return stack


def _begun(items: Sequence[WorkItem], env: TrialEnv, on_progress: OnProgress | None) -> list[Member]:
    registry.forget_user_modules()
    torch.set_num_threads(items[0].spec.tables["train"].get("threads_per_trial", 1))
    first = make_setup(items[0].spec, env)
    check_data(first)
    if (why := refusal(first)) is not None:
        raise Unstackable(why)
    setups = [_sharing(first, item) for item in items]
    for item, setup in zip(items, setups, strict=True):
        drop_state(setup, item, on_progress)
    return [
        member_of(item, setup, throttled(item.number, on_progress)) for item, setup in zip(items, setups, strict=True)
    ]


def _sharing(first: Setup, item: WorkItem) -> Setup:
    """Return a trial's setup with the data that another has loaded."""
    functions, hooks = resolve_all(item.spec.tables, first.env.recipe_dir)
    return Setup(item.spec, first.env, first.data, functions, **hooks)


def _result(member: Member, started_at: float, on_progress: OnProgress | None) -> TrialResult:
    clock = time.perf_counter()
    outcome = concluded(member.setup, member.training, member.item, on_progress)
    return TrialResult(
        id=member.item.spec.id,
        until_epoch=member.item.until_epoch,
        **vars(outcome),
        wall_seconds=member.seconds + time.perf_counter() - clock,
        peak_memory_bytes=peak_memory_bytes(member.setup.env.device),
        started_at=started_at,
    )
