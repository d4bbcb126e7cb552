"""The battery of check-init: every measure that is marked `@before_training`, one after the other."""

from __future__ import annotations

import functools
import time
from collections.abc import Collection
from typing import Any

import torch

from tuner.checks import measures
from tuner.checks.evidence import Evidence, NotMeasured
from tuner.checks.initial_loss.evidence import InitialLoss
from tuner.checks.tools.frame import BATTERY, OF_DATA, CannotProbe, Measure, fresh_model, offered, one_batch
from tuner.checks.tools.ordinary import runs_in_training
from tuner.checks.tools.rebuilt import rebuilt
from tuner.checks.tools.updates import step_size
from tuner.checks.tools.whole import whole
from tuner.core.errors import TunerError, UserCodeError, user_code
from tuner.train.applicable import why_not
from tuner.train.device import wait_for
from tuner.train.own_loss import told
from tuner.train.setup import Setup

# it sees whether the loss can be computed at all; on a GPU a label out of range ends the process
FIRST = "initial_loss"
# of these most errors come: what a check that has little time begins with
SOONEST = (FIRST, "loss_function", "one_step", "data_scan", "gradient_seen", "input_scale", "layers")


def init_battery(
    setup: Setup, until: float | None = None, only: Collection[str] = (), **settings: Any
) -> dict[str, Any]:
    """Return {measurement: its evidence as JSON}; one that cannot be made leaves the reason instead.

    `settings` go to the measures that have an argument of that name. With `until` (time.monotonic) those of SOONEST
    come first, then those that take least, and one is begun only where there is as much time as it takes, by the time
    of one training step. `only`: these alone are made, and the first one. What the user's own code raises is the
    user's to see where it does so in training as well, and lack of memory is the trial's failure; neither is taken for
    a measurement that does not apply.
    """
    measures()
    setup = whole(rebuilt(setup))
    ordinary = functools.cache(functools.partial(runs_in_training, setup))
    evidence: dict[str, Evidence | NotMeasured] = {}
    step: float | None = None  # seconds
    for name, measure in sorted(BATTERY.items(), key=lambda item: _place(item, until is not None)):
        if only and name not in (FIRST, *only):
            continue
        first = evidence.get(FIRST)
        if isinstance(first, InitialLoss) and first.too_narrow and name not in OF_DATA:
            evidence[name] = NotMeasured("the model has fewer outputs than there are classes")
            continue
        if (why := why_not(setup, name)) is None and until is not None and name != FIRST:
            step = _seconds_of_a_step(setup) if step is None else step
            why = _too_late(until, step * _steps(name, measure))
        if why is not None:
            evidence[name] = NotMeasured(why)
            continue
        try:
            with user_code(f"a call made by the measurement {name}", setup.env.recipe_dir):
                evidence[name] = measure(setup, **offered(measure, settings))
        except CannotProbe as reason:
            evidence[name] = NotMeasured(str(reason), applies=reason.applies)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except UserCodeError as error:
            if name == FIRST or not ordinary():
                raise
            evidence[name] = NotMeasured(error.message.splitlines()[0], raised=True)
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, NotImplementedError) as error:
            evidence[name] = NotMeasured(f"{type(error).__name__}: {error}".splitlines()[0], raised=True)
    return {name: found.to_json() for name, found in evidence.items()}


def _place(item: tuple[str, Measure], in_haste: bool) -> tuple[float, float, str]:
    """Return what measures are sorted by: the first one, then by their names; in haste by what must not be missed."""
    name, measure = item
    if not in_haste:
        return name != FIRST, 0, name
    return (SOONEST.index(name) if name in SOONEST else len(SOONEST)), _steps(name, measure), name


def _steps(name: str, measure: Measure) -> float:
    """Return about how many training steps a measure takes; one of the data alone none."""
    return float(getattr(measure, "steps", name not in OF_DATA))


def _seconds_of_a_step(setup: Setup) -> float:
    """Return what a forward and a backward on a batch take; 0 where they fail, which the measurements say.

    On a GPU it is the second ones: with the first backward of a process it loads its kernels.
    """
    try:
        for _ in range(1 if setup.env.device == "cpu" else 2):
            began = time.perf_counter()
            model, (inputs, targets) = fresh_model(setup), one_batch(setup, step_size(setup), "pace")
            with told(targets):
                setup.loss()(model(inputs), targets).backward()
            wait_for(setup.env.device)
    except (CannotProbe, RuntimeError, ValueError, TypeError, IndexError, AttributeError, TunerError):
        return 0.0
    return time.perf_counter() - began


def _too_late(until: float, takes: float) -> str | None:
    """Return why a measure is not begun; None where there is time for it."""
    left = until - time.monotonic()
    if left <= 0:
        return "the time that the check may take is over"
    return f"it takes about {takes:.1f} s, and the check has {left:.1f} s left for it" if takes > left else None
