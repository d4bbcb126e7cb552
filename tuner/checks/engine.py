"""The engine: gives every rule of a stage its evidence, and orders what they found, causes before their effects."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tuner import checks
from tuner.checks.cards import RULES, DoesNotApply, Missing, Rule
from tuner.checks.causes import CAUSES
from tuner.checks.earlier.evidence import Earlier
from tuner.checks.evidence import Evidence, NotMeasured
from tuner.checks.rates import RATES
from tuner.core.result import SEVERITIES, Finding, Skipped

Measured = Mapping[str, Evidence | NotMeasured]


def all_rules() -> dict[str, Rule]:
    """Import the rules of every folder and return them by code, sorted."""
    for name in checks.folders():
        place = f"{checks.__name__}.{name}.rules"
        if importlib.util.find_spec(place) is None:
            continue
        module = importlib.import_module(place)
        for info in pkgutil.iter_modules(getattr(module, "__path__", ())):
            importlib.import_module(f"{place}.{info.name}")
    return dict(sorted(RULES.items()))


def apply_rules(
    stage: str, evidence: Measured, accepted: Iterable[str] = ()
) -> tuple[list[Finding], list[str], list[Skipped]]:
    """Run the rules of a stage; return the findings (ordered, accepted ones marked), what ran and what could not.

    `evidence`: by measurement; what the steps before found (`earlier`) may explain what this one does.
    """
    accepted = set(accepted)
    findings: list[Finding] = []
    ran: list[str] = []
    skipped: list[Skipped] = []
    for card in all_rules().values():
        if card.stage != stage:
            continue
        try:
            finding = card.check(**given(card, evidence))
        except DoesNotApply:
            continue
        except Missing as missing:
            skipped.append(Skipped(f"{card.code} {card.name}", str(missing)))
            continue
        except TypeError as error:  # a number that a broken model or broken data left out is compared
            if "NoneType" not in str(error):
                raise
            skipped.append(Skipped(f"{card.code} {card.name}", "a number that it compares could not be measured"))
            continue
        ran.append(f"{card.code} {card.name}")
        if finding is not None:
            rate = RATES.get(finding.code)
            findings.append(replace(finding, accepted=finding.code in accepted, confidence=rate))
    earlier = evidence.get("earlier")
    return ordered(findings, earlier.findings if isinstance(earlier, Earlier) else ()), ran, skipped


def given(card: Rule, evidence: Measured) -> dict[str, Any]:
    """Return the arguments of a rule; raise Missing, with the measurement's own reason, where one was not made."""
    given: dict[str, Any] = {}
    for name, (kind, without) in card.needs.items():
        place = kind.measurement()
        seen = evidence.get(place) or NotMeasured(f"the measurement {place.replace('_', ' ')} was not made")
        if isinstance(seen, NotMeasured):
            if without == "must":
                raise Missing(seen.why) if seen.applies else DoesNotApply(seen.why)
            given[name] = None if without == "none" else seen
        else:
            given[name] = seen
    return given


def ordered(findings: Sequence[Finding], earlier: Iterable[Mapping[str, Any]] = ()) -> list[Finding]:
    """Order findings: errors before warns before notes, the checklist's order within; effects under their cause.

    A finding that another one here explains follows it, however heavy it is, and names its code in `explained_by`; one
    that an earlier step's finding explains keeps its place and names that. A finding that is accepted, or a note beside
    something heavier, explains nothing: what is said of it is that it is meant, or true of sound runs.
    """
    before = [item for item in earlier if item["severity"] != "note" and not item.get("accepted")]
    by_code = {finding.code: finding for finding in findings}
    causes = {finding.code: _cause_of(finding, findings) for finding in findings}
    roots = [finding for finding in findings if causes[finding.code] is None]
    result: list[Finding] = []

    def place(finding: Finding, under: str | None) -> None:
        result.append(replace(finding, explained_by=under or finding.explained_by or _earlier_cause(finding, before)))
        effects = [by_code[code] for code, cause in causes.items() if cause == finding.code]
        for effect in sorted(effects, key=_rank):
            place(effect, finding.code)

    def group(finding: Finding) -> tuple[int, int, str]:
        """Return the rank of a cause: as heavy as the heaviest of its effects, where one is heavier."""
        effects = [group(by_code[code])[0] for code, cause in causes.items() if cause == finding.code]
        return min([_rank(finding)[0], *effects]), *_rank(finding)[1:]

    for root in sorted(roots, key=group):
        place(root, None)
    return result


def _rank(finding: Finding) -> tuple[int, int, str]:
    return -SEVERITIES.index(finding.severity), CAUSES.index(finding.cause), finding.code


def _cause_of(finding: Finding, findings: Sequence[Finding]) -> str | None:
    """Return the code of the finding that explains this one best: the heaviest, then the first of the checklist."""
    if finding.explained_by in {other.code for other in findings}:
        return finding.explained_by
    names = _explains(finding)
    able = [
        other
        for other in findings
        if (other.code in names or other.cause in names)
        and other.code != finding.code
        and not other.accepted
        and (other.severity != "note" or finding.severity == "note")
        and finding.code not in _explains(other)
        and finding.cause not in _explains(other)
    ]
    return min(able, key=_rank).code if able else None


def _earlier_cause(finding: Finding, earlier: Sequence[Mapping[str, Any]]) -> str | None:
    names = _explains(finding)
    return next((item["code"] for item in earlier if item["code"] in names or item["cause"] in names), None)


def _explains(finding: Finding) -> tuple[str, ...]:
    return RULES[finding.code].explained_by if finding.code in RULES else ()
