"""The battery of check-init: every measure that is marked `@before_training`, one after the other."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import torch

from tuner.checks import measures
from tuner.checks.evidence import Evidence, NotMeasured
from tuner.checks.initial_loss.evidence import InitialLoss
from tuner.checks.tools.frame import BATTERY, OF_DATA, CannotProbe, offered
from tuner.checks.tools.rebuilt import rebuilt
from tuner.checks.tools.whole import whole
from tuner.core.errors import user_code
from tuner.train.applicable import why_not
from tuner.train.setup import Setup

# it sees whether the loss can be computed at all; on a GPU a label out of range ends the process
FIRST = "initial_loss"


def init_battery(
    setup: Setup, until: float | None = None, only: Collection[str] = (), **settings: Any
) -> dict[str, Any]:
    """Return {measurement: its evidence as JSON}; one that cannot be made leaves the reason instead.

    `settings` go to the measures that have an argument of that name. After the moment `until` (time.monotonic) no more
    are begun. `only`: these alone are made, and the first one. What the user's own code raises is the user's to see,
    and lack of memory is the trial's failure; neither is taken for a measurement that does not apply.
    """
    measures()
    setup = whole(rebuilt(setup))
    evidence: dict[str, Evidence | NotMeasured] = {}
    for name, measure in sorted(BATTERY.items(), key=lambda item: (item[0] != FIRST, item[0])):
        if only and name not in (FIRST, *only):
            continue
        first = evidence.get(FIRST)
        if isinstance(first, InitialLoss) and first.too_narrow and name not in OF_DATA:
            evidence[name] = NotMeasured("the model has fewer outputs than there are classes")
            continue
        over = until is not None and name != FIRST and time.monotonic() > until
        if (why := "the time that the check may take is over" if over else why_not(setup, name)) is not None:
            evidence[name] = NotMeasured(why)
            continue
        try:
            with user_code(f"a call made by the measurement {name}", setup.env.recipe_dir):
                evidence[name] = measure(setup, **offered(measure, settings))
        except CannotProbe as reason:
            evidence[name] = NotMeasured(str(reason), applies=reason.applies)
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, NotImplementedError) as error:
            evidence[name] = NotMeasured(f"{type(error).__name__}: {error}".splitlines()[0], raised=True)
    return {name: found.to_json() for name, found in evidence.items()}
