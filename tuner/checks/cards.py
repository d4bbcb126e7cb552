"""Rules and their cards: a rule is one function over evidence that gives a Finding or None, and has one cause."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tuner.checks.causes import CAUSES
from tuner.checks.evidence import Evidence, NotMeasured
from tuner.checks.limits import Limit
from tuner.core.result import Finding, Proposal, Severity

__all__ = [
    "DoesNotApply",
    "Limit",
    "Missing",
    "NotMeasured",
    "Rule",
    "found",
    "loud",
    "need",
    "number",
    "rule",
    "series",
    "some",
]
Check = Callable[..., Finding | None]
T = TypeVar("T")


class Missing(Exception):
    """Raised by a rule whose evidence is not there; its text is the reason that the report shows."""


class DoesNotApply(Missing):
    """Raised by a rule that is not about such a model or such data: nothing is missing, and the report says nothing."""


def need(value: T | None, why: str) -> T:
    """Return a piece of evidence; without it the rule cannot be applied, and `why` is the reason shown."""
    if value is None:
        raise Missing(why)
    return value


def number(value: Any) -> float | None:
    """Return a finite number, or None."""
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


def series(values: Sequence[float] | None, name: str, at_least: float) -> list[float]:
    """Return the winner's values of one kind, epoch by epoch, of which there must be `at_least`."""
    values = need(values, f"the winner's curve has no {name}")
    if len(values) < at_least:
        raise Missing(f"fewer than {at_least} epochs")
    return list(values)


def some(names: Sequence[str], most: int = 4) -> str:
    """Return names as text, the first few of them and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def loud(findings: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return those of an earlier step's findings that ask for a look: more than a note, and not accepted."""
    return [finding for finding in findings if finding["severity"] != "note" and not finding.get("accepted")]


@dataclass(frozen=True)
class Rule:
    """A rule and its card. `needs`: {parameter: (the evidence it takes, what it is without it)}.

    `explained_by`: the codes, or causes, of findings that explain this one.
    """

    code: str
    cause: str
    stage: str
    name: str
    check: Check
    meaning: str
    detected: str
    why: str
    fix: str
    confused_with: str = ""
    source: str = ""
    explained_by: tuple[str, ...] = ()
    needs: Mapping[str, tuple[type[Evidence], str]] = field(default_factory=dict)

    @property
    def measurement(self) -> str:
        """The folder that the rule stands in."""
        return self.check.__module__.split(".")[2]


RULES: dict[str, Rule] = {}


def rule(
    code: str,
    cause: str,
    stage: str,
    *,
    meaning: str,
    detected: str,
    why: str,
    fix: str,
    confused_with: str = "",
    source: str = "",
    explained_by: Sequence[str] = (),
) -> Callable[[Check], Check]:
    """Register a rule under its code; `stage` is the stage whose judge runs it.

    Raises:
        ValueError: two rules share a code, or the cause is none that is listed.
    """

    def register(check: Check) -> Check:
        if code in RULES and RULES[code].check.__qualname__ != check.__qualname__:
            raise ValueError(f"two rules share the code {code}")
        if cause not in CAUSES:
            raise ValueError(f"{code}: {cause!r} is no cause that checks.causes lists")
        text = (meaning, detected, why, fix, confused_with, source)
        name = check.__name__.replace("_", " ")
        RULES[code] = Rule(code, cause, stage, name, check, *text, tuple(explained_by), _needs(check))
        return check

    return register


def _needs(check: Check) -> dict[str, tuple[type[Evidence], str]]:
    hints = typing.get_type_hints(check)
    hints.pop("return", None)
    return {name: _need(kind) for name, kind in hints.items()}


def _need(kind: Any) -> tuple[type[Evidence], str]:
    """Return the class of evidence in a parameter's type, and what stands beside it: `must`, `none` or `reason`."""
    parts = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    evidence = next(part for part in parts if isinstance(part, type) and issubclass(part, Evidence))
    return evidence, "none" if types.NoneType in parts else "reason" if NotMeasured in parts else "must"


def found(
    code: str,
    severity: Severity,
    title: str,
    *,
    evidence: Mapping[str, Any],
    remedy: str = "",
    proposals: Sequence[Proposal] = (),
) -> Finding:
    """Return the Finding of a registered rule; without `remedy` the card's `fix` is used."""
    card = RULES[code]
    remedy = remedy or card.fix
    return Finding(code, card.cause, severity, title, dict(evidence), remedy, proposals=tuple(proposals))
