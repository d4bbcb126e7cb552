"""How a check keeps within its seconds: what a part costs is measured before it starts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tuner.checks.evidence import CannotProbe
from tuner.train.device import wait_for
from tuner.train.forms import Given, as_pair
from tuner.train.nested import first, leaves
from tuner.train.setup import Setup

MOST, FEWEST = 2000, 64  # examples of a split that are looked at: evenly spaced ones of a larger split
READ = 1 / 12  # of the seconds: to read a split once; two splits are read twice
AT_START = 0.1  # of the seconds: the forward of the loss at the start
FITTED = 0.25  # of the seconds: kept for the fit of a tiny subset
BESIDES = 12  # steps that a fit takes besides its own: what the outputs are, and the looks between
TIMED = 8  # examples
OVER = "the time that the check may take was over in the middle of it"


def readable(given: Given, seconds: float) -> int:
    """Return how many examples of a split can be looked at: MOST, or what a slow Dataset gives in its share of time."""
    if as_pair(given) is not None or not hasattr(given.dataset, "__getitem__"):
        return MOST
    size = len(given.dataset)
    each = statistics.median(_seconds(given.dataset.__getitem__, i * (size - 1) // 3) for i in range(4))
    return MOST if each <= 0 else max(FEWEST, min(MOST, int(seconds * READ / each)))


def _seconds(do: Callable[..., Any], *args: Any) -> float:
    began = time.perf_counter()
    try:
        do(*args)
    except Exception:  # what is wrong with an example is said where it is read
        return 0.0
    return time.perf_counter() - began


def stopped_at(model: nn.Module, until: float) -> nn.Module:
    """Return the model, which refuses any forward after the moment `until` (time.monotonic)."""

    def look(module: nn.Module, args: Any) -> None:
        if time.monotonic() > until:
            raise CannotProbe(OVER)

    model.register_forward_pre_hook(look)
    return model


def per_example(setup: Setup) -> float:
    """Return the seconds of a forward per example, of the faster of two; 0 where it fails, which is said later."""
    count = min(TIMED, setup.data.size("train"))
    inputs, _ = first(next(iter(setup.data.batches("train", count))), count)
    model = setup.model().eval()
    with torch.no_grad():
        return min(_seconds(_finished, setup, model, inputs) for _ in range(2)) / max(1, len(leaves(inputs)[0]))


def _finished(setup: Setup, model: nn.Module, inputs: Any) -> None:
    model(inputs)
    wait_for(setup.env.device)


def affordable_at_start(each: float, seconds: float, most: int) -> int:
    """Return of how many examples the loss at the start can be measured."""
    return most if each <= 0 else max(TIMED, min(most, int(seconds * AT_START / each)))


def affordable_steps(step: float, until: float, most: int) -> int:
    """Return how many steps of a fit there is time for, besides what it does besides; 0 where there is none."""
    left = until - time.monotonic()
    return most if step <= 0 and left > 0 else max(0, min(most, int(left / max(step, 1e-9)) - BESIDES))
