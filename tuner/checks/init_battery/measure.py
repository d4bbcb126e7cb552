"""The battery of check-init: every probe that is marked `@before_training`, one after the other."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import torch

from tuner.checks.tools.frame import BATTERY, CannotProbe, offered
from tuner.core.errors import user_code

FIRST = (
    "initial_loss"  # it sees whether the loss can be computed at all; on a GPU a label out of range ends the process
)


OF_DATA = tuple(module.__name__ for module in (data, layout, similar, splits))


def init_battery(setup: Any, **settings: Any) -> dict[str, Any]:
    """Run every probe that applies before training; one that cannot run leaves the reason instead.

    `settings` go to the probes that have an argument of that name. What the user's own code raises is the user's
    to see, and lack of memory is the trial's failure; neither is taken for a probe that does not apply.
    """
    for module in pkgutil.iter_modules(probes.__path__):
        importlib.import_module(f"{probes.__name__}.{module.name}")
    evidence: dict[str, Any] = {}
    for name, probe in sorted(BATTERY.items(), key=lambda item: (item[0] != FIRST, item[0])):
        if evidence.get(FIRST, {}).get("too_narrow") and probe.__module__ not in OF_DATA:
            evidence[name] = {"skipped": "the model has fewer outputs than there are classes"}
            continue
        try:
            with user_code(f"a call made by the probe {name}", setup.env.recipe_dir):
                evidence[name] = probe(setup, **offered(probe, settings))
        except CannotProbe as reason:
            evidence[name] = {"skipped": str(reason)}
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, NotImplementedError) as error:
            evidence[name] = {"skipped": f"{type(error).__name__}: {error}".splitlines()[0], "raised": True}
    return evidence
