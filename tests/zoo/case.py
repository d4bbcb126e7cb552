"""A case of the zoo: a planted bug, or a healthy program that looks like one.

A case is written as a user would write it: a recipe, and where it needs code a function of the user's own file. Cases
stand in `bugs/*.py` and `healthy/*.py`, one file per family, and in `pairs/*.py` where a bug and its sound look-alike
share data and code; the file is copied beside the recipe and is the user's file.
A case with code is a decorated hook, one without code a bare call:

    @bug("digits-mlp", "train.step", causes=["gradients-accumulate"], step="check-init")
    def gradients_are_never_cleared(model, batch, loss, optimizer):
        '''The optimizer's gradients are never set to zero.'''
        ...

    bug("digits-mlp", name="rate_of_100", causes=["lr-too-high"], step="lr-sweep", changes={"optimizer.lr": 100.0},
        what="The recipe's learning rate is 100.")

Part of the zoo is kept aside: no threshold is tuned on it (`Case.held_out`, fixed by the case's name alone). Cases of
`pairs/` were written for rules that were developed on them: none is kept aside.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Harm = Literal["crash", "val", "number"]
HERE = Path(__file__).parent
STEPS = ("check-init", "overfit", "lr-sweep", "coarse", "fine", "diagnose")


@dataclass(frozen=True)
class Case:
    """A program of the zoo.

    `changes` are dotted keys over the recipe of `base` (see `tests.zoo.bases`). A bug's `causes` are its true names,
    any of which counts as found; `step` is the step that is expected to find it at the latest. `harm` is how its
    harm is certified: it crashes, its val metric is clearly worse than that of its healthy twin, or a number that it
    reports is wrong. `twin` are changes of the base for the healthy twin (default: the base as it is), and `truth`
    says for `harm = "number"` which number is right. `source` is the published program or paper it was taken from.
    """

    name: str
    family: str
    base: str
    what: str
    file: Path
    healthy: bool
    changes: Mapping[str, Any] = field(default_factory=dict)
    causes: tuple[str, ...] = ()
    step: str = ""
    harm: Harm = "val"
    twin: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    @property
    def held_out(self) -> bool:
        """Whether it is in the third that no threshold is tuned on."""
        return self.file.parent.name != "pairs" and hashlib.sha256(self.name.encode()).digest()[0] % 3 == 0


CASES: dict[str, Case] = {}


def bug(
    base: str,
    hook: str | None = None,
    *,
    causes: Sequence[str],
    step: str,
    harm: Harm = "val",
    name: str = "",
    what: str = "",
    changes: Mapping[str, Any] | None = None,
    twin: Mapping[str, Any] | None = None,
    source: str = "",
) -> Any:
    """Register a planted bug; as a decorator where `hook` names the recipe key that the function becomes."""
    if step not in STEPS:
        raise ValueError(f"{step!r} is no step (known: {', '.join(STEPS)})")
    about = {"causes": tuple(causes), "step": step, "harm": harm, "twin": dict(twin or {}), "source": source}
    return _register(base, hook, name, what, dict(changes or {}), healthy=False, **about)


def healthy(
    base: str,
    hook: str | None = None,
    *,
    name: str = "",
    what: str = "",
    changes: Mapping[str, Any] | None = None,
    twin: Mapping[str, Any] | None = None,
    source: str = "",
) -> Any:
    """Register a healthy look-alike: every verdict on it must be pass.

    `twin`: changes of the base for the program that it must do as well as, where the base has other data.
    """
    about = {"twin": dict(twin or {}), "source": source}
    return _register(base, hook, name, what, dict(changes or {}), healthy=True, **about)


def without(key: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a program's changes but one, which the decorated function makes."""
    return {name: value for name, value in changes.items() if name != key}


def _register(base: str, hook: str | None, name: str, what: str, changes: dict[str, Any], **about: Any) -> Any:
    caller = Path(sys._getframe(2).f_code.co_filename)

    def add(case: Case) -> None:
        if caller.parent.parent != HERE:
            return  # the copy beside a recipe, imported from scratch for every trial
        if case.name in CASES and CASES[case.name].file != case.file:
            raise ValueError(f"two cases are named {case.name}")
        CASES[case.name] = case

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        reference: Any = f"{caller.name}:{function.__name__}"
        hooked = {hook: [reference] if hook == "data.augment" else reference}
        text = what or " ".join((inspect.getdoc(function) or "").split())
        add(Case(name or function.__name__, caller.stem, base, text, caller, changes={**hooked, **changes}, **about))
        return function

    if hook is not None:
        return decorate
    if not name or not what:
        raise ValueError("a case without a function needs name= and what=")
    add(Case(name, caller.stem, base, what, caller, changes=changes, **about))
    return None
