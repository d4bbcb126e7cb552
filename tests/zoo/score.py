"""The score: what was detected, when, and under which name; and what was said of sound programs.

Definitions, for a run (one case, one seed):

- A step *speaks of* a bug if it ended with an error of exit code 2, 3 or 4 that has a message (the recipe is refused,
  the data cannot be read, the user's code raises), or if one of its findings, not accepted in the recipe, is a warn or
  an error; or is a note that names one of the case's causes where that cause is advice by design (`causes.ADVICE`:
  tuning advice that is never more than a note unless the model is at its baseline).
- A bug is *detected* if a step up to the expected one speaks of it; *at the expected step* if that one is the first.
  A bug of ours (exit code 70), a killed or a dead run detects nothing.
- *Top-1*, of all bug runs (not only of the detected ones): the first finding of the first step that speaks names one
  of the case's causes; *top-3*: one of the first three does. Findings are taken in the order of the report; those that
  are accepted are left out. A step that ended with an error names a cause if its message does (`causes.NAMED_BY`),
  and then counts as first.
- A *false error* is a look-alike's run with a failed verdict, an exit code other than 0, a timeout or a death; a
  *false warn* one with a warn that the recipe does not accept.
- Runs of cases that are not certified, and runs skipped for lack of data, are listed apart and counted nowhere.

Baselines, as exact expectations: *always alarm* says at check-init of every program that it is broken and names a cause
at random; *random cause* alarms where tuner does and names a cause at random. The draw is uniform over all slugs.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.zoo.case import STEPS, Case
from tests.zoo.causes import ADVICE, CAUSES, NAMED_BY
from tuner.core.statistics import wilson

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Judged:
    """What a run amounts to. `step`: the first that speaks of the bug, None if none does; `said`: its causes in order.

    `seconds`: until that step's verdict, or until the end of the run.
    """

    case: Case
    seed: int
    step: str | None
    said: tuple[str, ...]
    seconds: float
    false_error: bool = False
    false_warn: bool = False

    @property
    def detected(self) -> bool:
        return self.step is not None

    @property
    def at_expected(self) -> bool:
        return self.step == self.case.step

    def named(self, among: int) -> bool:
        """Return whether one of the first causes that were said is true."""
        return any(cause in self.case.causes for cause in self.said[:among])


def judged(record: Mapping[str, Any], case: Case) -> Judged:
    """Judge one record of a run."""
    steps: Sequence[Entry] = record["steps"]
    whole = sum(entry["seconds"] for entry in steps)
    if case.healthy:
        broken = record["status"] != "done" or any(entry["exit"] for entry in steps)
        warned = any(finding["severity"] == "warn" for entry in steps for finding in _open(entry))
        return Judged(case, record["seed"], None, _all_said(steps), whole, broken, warned)
    until = 0.0
    in_time = STEPS[: STEPS.index(case.step) + 1]
    for entry in (entry for entry in steps if entry["step"] in in_time):
        until += entry["seconds"]
        if speaks(entry, case):
            return Judged(case, record["seed"], entry["step"], causes_of(entry, case), until)
    return Judged(case, record["seed"], None, _all_said(steps), whole)


def speaks(entry: Entry, case: Case) -> bool:
    """Return whether a step's result says that something is wrong; see the module's docstring."""
    if entry["exit"] in (2, 3, 4):
        return bool(entry.get("message"))
    return any(
        finding["severity"] != "note" or (finding["cause"] in case.causes and finding["cause"] in ADVICE)
        for finding in _open(entry)
    )


def causes_of(entry: Entry, case: Case) -> tuple[str, ...]:
    """Return the causes that a step names, in the order of its report."""
    if entry["exit"] in (2, 3, 4):
        return tuple(cause for cause in case.causes if _message_names(entry["message"], cause))
    return tuple(finding["cause"] for finding in _open(entry))


def _message_names(message: str, cause: str) -> bool:
    return cause in NAMED_BY and re.search(NAMED_BY[cause], message, re.IGNORECASE) is not None


def _open(entry: Entry) -> list[Mapping[str, Any]]:
    return [finding for finding in entry["findings"] if not finding["accepted"]]


def _all_said(steps: Sequence[Entry]) -> tuple[str, ...]:
    """Return everything that was said, step by step, with its weight, for the lists of misses and false alarms."""
    said = [f"{f['cause']} ({entry['step']}, {f['severity']})" for entry in steps for f in _open(entry)]
    said += [
        f"exit {e['exit']} in {e['step']}: {e['message'].strip().splitlines()[-1]}" for e in steps if "message" in e
    ]
    return tuple(said)


@dataclass(frozen=True)
class Rates:
    """Shares over the runs of bugs. `interval`: Wilson's, 95 %, of the detection rate."""

    n: int
    detected: float
    interval: tuple[float, float]
    at_expected: float
    top1: float
    top3: float
    seconds: float | None


def rates(runs: Sequence[Judged]) -> Rates:
    """Return the shares over runs of bugs; seconds are the median over the detected ones."""
    n = len(runs)

    def share(is_so: Callable[[Judged], bool]) -> float:
        return sum(map(is_so, runs)) / n if n else math.nan

    found = share(lambda run: run.detected)
    times = [run.seconds for run in runs if run.detected]
    return Rates(
        n,
        found,
        wilson(found, n) if n else (0.0, 1.0),
        share(lambda run: run.at_expected),
        share(lambda run: run.detected and run.named(1)),
        share(lambda run: run.detected and run.named(3)),
        statistics.median(times) if times else None,
    )


def baselines(runs: Sequence[Judged]) -> dict[str, Rates]:
    """Return what naming a cause at random would give, in expectation, with our alarms and with an alarm for all."""
    always = [_chances(run, alarmed=True) for run in runs]
    where = [_chances(run, alarmed=run.detected) for run in runs]
    at_once = sum(run.case.step == STEPS[0] for run in runs) / len(runs) if runs else math.nan
    ours = rates(runs)
    return {
        "always alarm, random cause": _expected(always, 1.0, at_once, len(runs)),
        "our alarms, random cause": _expected(where, ours.detected, ours.at_expected, len(runs)),
    }


def _chances(run: Judged, alarmed: bool) -> tuple[float, float]:
    """Return the chances that one cause drawn at random, and one of three drawn without repetition, is true."""
    if not alarmed:
        return 0.0, 0.0
    all_, true = len(CAUSES), len(run.case.causes)
    return true / all_, 1 - math.comb(all_ - true, 3) / math.comb(all_, 3)


def _expected(chances: Sequence[tuple[float, float]], detected: float, at_expected: float, n: int) -> Rates:
    if not n:
        return rates([])
    top1, top3 = (statistics.fmean(values) for values in zip(*chances, strict=True))
    return Rates(n, detected, wilson(detected, n), at_expected, top1, top3, None)


@dataclass(frozen=True)
class Score:
    """The runs that count, bugs and look-alikes, and those that don't, each with the reason."""

    bugs: list[Judged] = field(default_factory=list)
    healthy: list[Judged] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def part(self, held_out: bool | None) -> Score:
        """Return the score of one part of the zoo; None: all of it."""
        if held_out is None:
            return self
        return Score(
            [run for run in self.bugs if run.case.held_out == held_out],
            [run for run in self.healthy if run.case.held_out == held_out],
            self.left_out,
        )

    @property
    def misses(self) -> list[Judged]:
        return [run for run in self.bugs if not run.detected]

    @property
    def misnamed(self) -> list[Judged]:
        return [run for run in self.bugs if run.detected and not run.named(1)]

    @property
    def false_alarms(self) -> list[Judged]:
        return [run for run in self.healthy if run.false_error or run.false_warn]


def score(
    records: Sequence[Mapping[str, Any]], cases: Mapping[str, Case], why_not: Callable[[Case], str | None]
) -> Score:
    """Judge the records; `why_not(case)` says why a case does not count (it is not certified), None if it does."""
    result = Score()
    reasons = {name: why_not(cases[name]) for name in {record["case"] for record in records}}
    for record in records:
        case = cases[record["case"]]
        reason = record["why"] if record["status"] == "skipped" else reasons[case.name]
        if reason is not None:
            result.left_out[case.name] = reason
        else:
            (result.healthy if case.healthy else result.bugs).append(judged(record, case))
    return result
