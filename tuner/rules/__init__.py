"""Diagnostic rules. One rule is one function over evidence that gives a Finding or None; to add one, add a function.

A rule is registered with its card, from which `tuner explain` and the table of codes are made:

    @rule("LR301", "lr-band-at-edge", "lr-sweep", meaning=..., detected=..., why=..., fix=..., source=...)
    def band_at_edge(evidence: Mapping) -> Finding | None:
        if "rates" not in evidence:
            raise Missing("no rate was measured")
        ...
        return found("LR301", "warn", "the best rate, 10, is the last that was tried", evidence={...}, confidence=0.9)

Codes: two letters for the group, then the number of the checklist's step: DA1xx data and IN1xx init (check-init),
OV2xx overfit, LR3xx lr-sweep, CO4xx coarse, FI5xx fine, CU6xx diagnose, TE8xx test.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tuner.core.result import Change, Finding, Proposal, Severity, Skipped, ranked

Check = Callable[[Mapping[str, Any]], Finding | None]


class Missing(Exception):
    """Raised by a rule whose evidence is not there; its text is the reason that the report shows."""


def need(evidence: Mapping[str, Any], key: str, why: str) -> Any:
    """Return a piece of evidence; without it the rule cannot be applied, and `why` is the reason shown."""
    if evidence.get(key) is None:
        raise Missing(why)
    return evidence[key]


def series(evidence: Mapping[str, Any], name: str, least: int) -> list[float]:
    """Return the winner's values of one kind, epoch by epoch, of which there must be `least`."""
    values = need(evidence, name, f"the winner's curve has no {name.replace('_', ' ')}")
    if len(values) < least:
        raise Missing(f"fewer than {least} epochs")
    return list(values)


def loud(findings: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return those of an earlier step's findings that ask for a look: more than a note, and not accepted."""
    return [finding for finding in findings if finding["severity"] != "note" and not finding.get("accepted")]


@dataclass(frozen=True)
class Rule:
    """A rule and its card."""

    code: str
    cause: str
    stage: str
    name: str
    check: Check
    meaning: str
    detected: str
    why: str
    fix: str
    confused_with: str
    source: str


_RULES: dict[str, Rule] = {}


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
) -> Callable[[Check], Check]:
    """Register a rule under its code; `stage` is the stage whose judge runs it."""

    def register(check: Check) -> Check:
        if code in _RULES and _RULES[code].check.__qualname__ != check.__qualname__:
            raise ValueError(f"two rules share the code {code}")
        name = check.__name__.replace("_", " ")
        _RULES[code] = Rule(code, cause, stage, name, check, meaning, detected, why, fix, confused_with, source)
        return check

    return register


def found(
    code: str,
    severity: Severity,
    title: str,
    *,
    evidence: Mapping[str, Any],
    remedy: str = "",
    confidence: float = 1.0,
    changes: Sequence[Change] = (),
    proposals: Sequence[Proposal] = (),
) -> Finding:
    """Make the Finding of a registered rule; without `remedy` the card's `fix` is used."""
    card = _RULES[code]
    remedy = remedy or card.fix
    return Finding(
        code,
        card.cause,
        severity,
        title,
        dict(evidence),
        remedy,
        confidence,
        tuple(changes),
        proposals=tuple(proposals),
    )


def all_rules() -> dict[str, Rule]:
    """Import every module of this package and return the rules by code, sorted."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(_RULES.items()))


def apply_rules(
    stage: str, evidence: Mapping[str, Any], accepted: Iterable[str] = ()
) -> tuple[list[Finding], list[str], list[Skipped]]:
    """Run the rules of a stage; return the findings (ranked, accepted ones marked), what ran and what could not."""
    accepted = set(accepted)
    findings: list[Finding] = []
    ran: list[str] = []
    skipped: list[Skipped] = []
    for card in all_rules().values():
        if card.stage != stage:
            continue
        try:
            finding = card.check(evidence)
        except Missing as missing:
            skipped.append(Skipped(f"{card.code} {card.name}", str(missing)))
            continue
        ran.append(f"{card.code} {card.name}")
        if finding is not None:
            findings.append(replace(finding, accepted=finding.code in accepted))
    return ranked(findings), ran, skipped
