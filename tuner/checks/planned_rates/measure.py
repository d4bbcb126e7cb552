"""The learning-rate schedule, stepped through the whole planned run without training anything."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from tuner.checks.planned_rates.evidence import PlannedRates
from tuner.checks.tools.frame import CannotProbe, before_training, fresh_model, fresh_optimizer
from tuner.train.scheduling import watches_val
from tuner.train.setup import Setup

POINTS = 120  # of a simulated run that are kept for the picture
MOST_STEPS = 200_000  # about four seconds
ALIVE = 0.01  # a rate below this share of the run's highest moves nothing that matters
SWING = 0.5  # a rise or fall by this share of the highest rate is a swing


@before_training
def planned_rates(setup: Setup, horizons: Mapping[str, int] | None = None) -> PlannedRates:
    """Step the schedule through each planned run (`horizons`: stage -> epochs) and say how the rate moves.

    Rates are the largest of the optimizer's groups, over the recipe's rate. `follows_recipe`: with the recipe's rate
    doubled the schedule's rates are doubled too; where they stay, searching the rate has no effect.
    """
    steps_per_epoch = max(1, setup.data.steps_per_epoch(setup.spec.tables["train"]["batch_size"]))
    base = float(setup.spec.tables["optimizer"]["lr"])
    model, found = fresh_model(setup), dict[str, Any]()
    for stage, epochs in (horizons or {"fine": 15}).items():
        total = epochs * steps_per_epoch
        if total > MOST_STEPS:
            continue
        rates, kind, raised = _simulated(setup, model, (steps_per_epoch, total), total)
        doubled, _, _ = _simulated(setup, model, (steps_per_epoch, total), 50, lr=2 * base)
        facts = _facts([rate / base for rate in rates], total, epochs)
        same = all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(rates, doubled, strict=False))
        found[stage] = {"epochs": epochs, "steps": total, "raised": raised, **facts, "follows_recipe": not same}
    if not found:
        raise CannotProbe(f"the planned runs have more than {MOST_STEPS} steps")
    table = setup.spec.tables["schedule"]
    optimizers = [fresh_optimizer(setup, model, lr=rate) for rate in (base, 2 * base)]
    own = [max(float(group["lr"]) for group in optimizer.param_groups) for optimizer in optimizers]
    shape = {"every": setup.schedule_every, "kind": kind, "base": base, "groups": _groups(optimizers[0], model)}
    return PlannedRates.from_json(
        {"name": table["name"], **shape, "optimizer_follows": not math.isclose(*own, rel_tol=1e-6), "runs": found}
    )


def _groups(optimizer: torch.optim.Optimizer, model: nn.Module) -> list[dict[str, Any]]:
    """Return the optimizer's parameter groups with the names of what is in them."""
    names = {id(item): name for name, item in model.named_parameters()}
    return [
        {
            "parameters": [names.get(id(item), "not of the model") for item in group["params"]],
            "lr": _plain(group.get("lr")),
            "weight_decay": _plain(group.get("weight_decay")),
        }
        for group in optimizer.param_groups
    ]


def _plain(value: Any) -> float | None:
    """Return a setting of a group as a number; a tensor of one too."""
    return None if value is None else float(value)


def _simulated(
    setup: Setup, model: nn.Module, length: tuple[int, int], until: int, **table: Any
) -> tuple[list[float], str, str | None]:
    """Return the rates of a run's updates `until` one of them, the schedule's class, and what it raised on the way.

    `length`: of an epoch and of the run, in updates. `table`: keys of the optimizer's that are other than the recipe's.
    """
    steps_per_epoch, total = length
    optimizer = fresh_optimizer(setup, model, **table)
    schedule = setup.schedule(optimizer, total, steps_per_epoch)
    if watches_val(schedule):
        raise CannotProbe("the schedule follows the val loss, which nothing is known of before training")
    by_epoch = setup.schedule_every == "epoch"
    rates: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch misses the optimizer's own steps
        for step in range(1, min(until, total) + 1):
            rates.append(max(float(group["lr"]) for group in optimizer.param_groups))
            if step == total or (by_epoch and step % steps_per_epoch):
                continue
            try:
                schedule.step()
            except (ValueError, IndexError, ZeroDivisionError, OverflowError) as error:
                return rates, type(schedule).__name__, f"after {step} updates of {total}: {error}".splitlines()[0]
    return rates, type(schedule).__name__, None


def _facts(rates: list[float], total: int, epochs: int) -> dict[str, Any]:
    """Describe a series of rates; `*_until` and `*_from` are shares of the planned run."""
    finite = all(math.isfinite(rate) for rate in rates)
    peak = max(rates) if finite else math.nan
    series = {"rates": [rates[i] for i in _places(len(rates))], "places": [i / total for i in _places(len(rates))]}
    if not finite or peak <= 0:
        return {**series, "finite": finite, "peak": peak, "lowest": min(rates)}
    alive = [i for i, rate in enumerate(rates) if rate > ALIVE * peak]
    swings = _swings(rates, SWING * peak)
    return {
        **series,
        "finite": True,
        "first": rates[0],
        "peak": peak,
        "lowest": min(rates),
        "final": rates[-1],
        "peak_until": next(i for i, rate in enumerate(rates) if rate >= 0.95 * peak) / total,
        "zero_until": next(i for i, rate in enumerate(rates) if rate > 1e-6 * peak) / total,
        "dead_from": (alive[-1] + 1) / total,
        "range": (peak - min(rates)) / peak,
        "rises": swings,
        "rises_per_epoch": swings / epochs,
    }


def _places(count: int) -> list[int]:
    if count <= POINTS:
        return list(range(count))
    return sorted({round(i * (count - 1) / (POINTS - 1)) for i in range(POINTS)})


def _swings(rates: list[float], size: float) -> int:
    """Count the rises by at least `size` after a fall of at least that: how often the rate comes back up."""
    rises, high, low, falling = 0, rates[0], rates[0], False
    for rate in rates:
        high, low = max(high, rate), min(low, rate)
        if not falling and high - rate >= size:
            falling, low = True, rate
        elif falling and rate - low >= size:
            falling, high, rises = False, rate, rises + 1
    return rises
