"""A trial's learning-rate schedule: the recipe's, with a warm-up and a time at the whole rate in front of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from tuner.core.errors import UsageError, user_code
from tuner.core.formatting import shown
from tuner.recipe.registry import arguments, asked, bind

FACTOR_OFFERS = ("epoch", "step", "total_steps", "steps_per_epoch")
BEFORE = ("warmup_epochs", "hold_epochs")


class Led:
    """A schedule that is begun after `warmup` updates of a linear rise and `hold` updates at the whole rate.

    The first update of a rise of w has 1 / w of the rate, so that none is made with a rate of 0.
    """

    def __init__(self, inner: Any, warmup: int, hold: int, whole: list[float]) -> None:
        self.inner, self.warmup, self.hold, self.at = inner, warmup, hold, 0
        self.optimizer: torch.optim.Optimizer = inner.optimizer
        self.whole = whole
        self.first = [group["lr"] for group in self.optimizer.param_groups]
        self._set()

    def _set(self) -> None:
        if self.at > self.warmup + self.hold:
            return
        rising = self.at < self.warmup
        rates = self.first if self.at == self.warmup + self.hold else self.whole
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (self.at + 1) / self.warmup if rising else rate

    def step(self, *metrics: float) -> None:
        self.at += 1
        if self.at > self.warmup + self.hold:
            self.inner.step(*metrics)
        else:
            self._set()

    def get_last_lr(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at, "whole": self.whole, "first": self.first, "inner": self.inner.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at, self.whole, self.first = state["at"], state["whole"], state["first"]
        self.inner.load_state_dict(state["inner"])


class Timm:
    """A scheduler of timm as one of torch: its epochs or its updates are counted here, from 0 on."""

    def __init__(self, scheduler: Any, steps_per_epoch: int) -> None:
        self.scheduler, self.steps_per_epoch, self.at = scheduler, max(steps_per_epoch, 1), 0
        self.optimizer = scheduler.optimizer

    def step(self) -> None:
        self.at += 1
        if self.at % self.steps_per_epoch == 0:
            self.scheduler.step(self.at // self.steps_per_epoch)
        self.scheduler.step_update(self.at)

    def get_last_lr(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at, "timm": {k: v for k, v in self.scheduler.state_dict().items() if k != "optimizer"}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at = state["at"]
        self.scheduler.load_state_dict(state["timm"])


Schedule = LRScheduler | Led | Timm


def watches_val(schedule: Schedule) -> TypeGuard[Led | ReduceLROnPlateau]:
    """Return whether a schedule is told the val loss when it is stepped."""
    return isinstance(schedule.inner if isinstance(schedule, Led) else schedule, ReduceLROnPlateau)


def lead_of(fn: Callable[..., Any], table: Mapping[str, Any], steps_per_epoch: int) -> tuple[int, int, dict[str, Any]]:
    """Return the updates of warm-up and hold that go before the schedule, and the table without their keys.

    A schedule that has a warm-up of its own keeps it, but where a hold comes between.

    Raises:
        UsageError: "must be a number", "must not be negative".
    """
    table = dict(table)
    steps_per_epoch = max(steps_per_epoch, 1)
    for key in BEFORE:
        value = table.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UsageError(f"schedule.{key}: must be a number (got {shown(value)})")
        if value < 0:
            raise UsageError(f"schedule.{key}: must not be negative (got {value!r})")
    hold = round(table.pop("hold_epochs", 0) * steps_per_epoch)
    if not hold and asked(fn, ("warmup_epochs",)):
        return 0, 0, table
    return round(table.pop("warmup_epochs", 0) * steps_per_epoch), hold, table


def is_factor(fn: Callable[..., Any]) -> bool:
    """Return whether a function gives the factor of the rate itself: it asks for no optimizer, but for what is done."""
    return not isinstance(fn, type) and not asked(fn, ("optimizer",)) and bool(asked(fn, FACTOR_OFFERS[:2]))


def by_factor(
    fn: Callable[..., Any],
    table: Mapping[str, Any],
    optimizer: torch.optim.Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    folder: Path,
) -> LambdaLR:
    """Return the schedule that multiplies the rate by `fn(epoch, step, ...)`; epoch is a real number of epochs done."""
    args = arguments(table, ("name", "every"))
    wanted = bind(fn, dict.fromkeys(FACTOR_OFFERS), args, "schedule")

    def factor(at: int) -> float:
        known = {"epoch": at / steps_per_epoch, "step": at, "total_steps": total_steps}
        known |= {"steps_per_epoch": steps_per_epoch}
        with user_code("schedule", folder):
            return float(fn(**{key: args.get(key, known.get(key)) for key in wanted}))

    return LambdaLR(optimizer, factor)


def led(
    build: Callable[[int], Any],
    lead: tuple[int, int],
    optimizer: torch.optim.Optimizer,
    total_steps: int,
    steps_per_epoch: int,
) -> Any:
    """Build a schedule over the updates that are left after its lead, and put the lead in front.

    Raises:
        UsageError: "not shorter than the run".
    """
    warmup, hold = lead
    if warmup + hold >= total_steps > 0 and warmup + hold > 0:
        raise UsageError(
            f"schedule.warmup_epochs: the warm-up ({warmup} steps) and the hold ({hold}) together are not shorter "
            f"than the run ({total_steps} steps)",
            "Shorten them: a tenth of the run is usual.",
        )
    whole = [group["lr"] for group in optimizer.param_groups]
    schedule = build(max(total_steps - warmup - hold, 0))
    if not isinstance(schedule, LRScheduler) and hasattr(schedule, "step_update"):
        schedule = Timm(schedule, steps_per_epoch)
    return Led(schedule, warmup, hold, whole) if warmup + hold else schedule
