"""Checks: one folder per measurement, found by its place. A new check is one folder; nothing else is edited.

    checks/one_step/evidence.py   class OneStep(Evidence): a frozen dataclass in plain Python, named after the folder in
                                  CamelCase; what its fields mean, their shapes and units, in its docstring
    checks/one_step/measure.py    def one_step(setup, ...) -> OneStep: the only file with torch, imported in workers
                                  only; `@before_training` puts it into the battery that check-init runs
    checks/one_step/rules.py      predicates over the evidence, each with its card; or a package `rules/` of such files

A rule says what it needs by the types of its parameters:

    UNUSED = Limit("unused", 0.75, "of a batch", source="zoo: usual steps use all of it, the nearest bug half")

    @rule("IN125", "repeated-data", "check-init", meaning=..., detected=f"... less than {UNUSED:.0%} of ...", ...,
          explained_by=("IN122",))
    def other_examples(diet: StepDiet, use: BatchUse | None) -> Finding | None:
        if diet.used >= UNUSED:
            return None
        return found("IN125", "warn", f"the step uses {diet.used:.0%} of each batch", evidence=diet.only("used"))

`StepDiet` must have been measured, otherwise the rule is listed as skipped with the reason; `BatchUse | None` is None
where it was not; `StepDiet | NotMeasured` is the reason itself. One rule has one cause: that of its card. Codes are two
letters for the group, then the number of the checklist's step: DA1xx data and IN1xx init (check-init), OV2xx overfit,
LR3xx lr-sweep, CO4xx coarse, FI5xx fine, CU6xx diagnose, TE8xx test. Numbers that are compared with are `Limit`s: name,
number, unit and source; the card's text is formatted from them. `explained_by` names codes (or causes) of findings that
explain this one: the engine (`checks.engine`) puts it under them. Evidence of a search or of curves has no measure.py:
its stage makes it.

Tests stand in tests/checks/<folder>/, and build evidence from the dataclasses.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from typing import Any


def folders() -> list[str]:
    """Return the names of all measurements, sorted."""
    return sorted(info.name for info in pkgutil.iter_modules(__path__) if info.ispkg)


def measures() -> dict[str, Callable[..., Any]]:
    """Import every measure (and torch) and return them by name."""
    return {name: measure for name in folders() if (measure := _named(name)) is not None}


def _named(name: str) -> Callable[..., Any] | None:
    """Import one measure and no other; None where there is none of this name. The registry asks this first."""
    if name not in folders() or importlib.util.find_spec(f"{__name__}.{name}.measure") is None:
        return None
    measure: Callable[..., Any] = getattr(importlib.import_module(f"{__name__}.{name}.measure"), name)
    return measure


_more = measures  # the registry asks a kind's module for what it adds to its own functions
