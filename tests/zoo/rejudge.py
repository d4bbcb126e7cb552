"""All rules again on the stored evidence of all runs, without torch: what is said now against what was said then."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.zoo.case import STEPS, Case
from tests.zoo.evidence import case_of, stored
from tests.zoo.score import Score, judged, rates, score
from tests.zoo.table import PARTS, tables
from tuner.checks import rates as rates_module
from tuner.checks.engine import apply_rules
from tuner.checks.evidence import read_all
from tuner.checks.limits import Limit, comparisons
from tuner.core.result import StageResult

FEWEST = 5  # findings below which a rate says little
RATES_FILE = Path(rates_module.__file__)
SHOWN = ("code", "cause", "severity", "confidence", "accepted", "title")
HEAD = ("bugs", "runs", "detected", "named first", "in three", "look-alikes", "false errors", "false warns")
STEP_HEAD = ("bugs found by", "runs", "detected", "named first", "in three")


def judged_again(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a stored run with what the rules say now.

    A step that fails now and did not then ends the run, as it would. Where a step failed then and does not now, nothing
    is known of the steps after it: `open` says so, and the run must be made again.
    """
    steps: list[dict[str, Any]] = []
    for step in run["steps"]:
        new = {key: value for key, value in step.items() if key not in ("evidence", "accepted")}
        if step.get("evidence") is not None:
            findings = apply_rules(step["step"], read_all(_after(step["evidence"], steps)), step["accepted"])[0]
            result = StageResult(step["step"], "", metrics=None, findings=findings)
            new["findings"] = [{key: item.to_json()[key] for key in SHOWN} for item in findings]
            new |= {"verdict": result.verdict, "exit": 1 if result.verdict == "fail" else 0}
        steps.append(new)
        if new["exit"]:
            break
    last = run["steps"][len(steps) - 1]
    return {**run, "steps": steps, "open": bool(last["exit"]) and not steps[-1]["exit"]}


def _after(evidence: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a step's evidence with what the steps before it say now."""
    if "earlier" not in evidence:
        return dict(evidence)
    return {**evidence, "earlier": {"findings": [item for step in reversed(steps) for item in step["findings"]]}}


def main() -> None:
    """Print the comparison for all stored runs, and the limits' margins.

    `--write` stores these, and how often codes are right; `--markdown` prints the tables of what is said now, alone.
    """
    runs = stored()
    if "--markdown" in sys.argv:
        print(tables(now(runs)))
        return
    with comparisons() as heard_everywhere:
        print(compared(runs))
    print(f"\n{len(heard_everywhere)} comparisons with limits; the nearest sound and the nearest buggy value of each:")
    for name, (sound, bugs) in margins(runs).items():
        print(f"- {name}: sound {sound}; bugs {bugs}")
    if "--write" in sys.argv:
        RATES_FILE.write_text(rates_text(runs))


def now(runs: Sequence[Mapping[str, Any]]) -> Score:
    """Return the score of what the rules say now."""
    left_out = {run["case"]: run["left_out"] for run in runs}
    cases = {run["case"]: case_of(run) for run in runs}
    return score([judged_again(run) for run in runs], cases, lambda case: left_out[case.name])


def margins(runs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, str]]:
    """Return per limit the nearest values below and above it, of sound programs and of bugs.

    Values are those that rules compared with the limit itself, on the runs of one kind alone.
    """
    seen: dict[str, dict[bool, list[float]]] = {}
    limits: dict[str, Limit] = {}
    for run in runs:
        with comparisons() as heard:
            judged_again(run)
        for limit, value in heard:
            limits[_place(limit)] = limit
            seen.setdefault(_place(limit), {True: [], False: []})[run["about"]["healthy"]].append(value)
    return {name: _margin(limits[name], values) for name, values in sorted(seen.items())}


def _place(limit: Limit) -> str:
    return f"{limit.name} ({limit.unit})"


def _margin(limit: Limit, values: Mapping[bool, Sequence[float]]) -> tuple[str, str]:
    def nearest(healthy: bool) -> str:
        below = max((value for value in values[healthy] if value <= limit), default=None)
        above = min((value for value in values[healthy] if value > limit), default=None)
        return " .. ".join("-" if value is None else f"{value:.3g}" for value in (below, above))

    return nearest(True), nearest(False)


def rates_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return per code in what share of its findings, warns and errors, the case has that cause; of five or more."""
    said: dict[str, list[bool]] = {}
    for run in runs:
        if run["left_out"] is not None:
            continue
        for step in judged_again(run)["steps"]:
            for item in step["findings"]:
                if item["severity"] != "note" and not item["accepted"]:
                    said.setdefault(item["code"], []).append(item["cause"] in run["about"]["causes"])
    return {code: round(sum(right) / len(right), 2) for code, right in sorted(said.items()) if len(right) >= FEWEST}


def rates_text(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the module tuner/checks/rates.py: how often codes are right, and the margins of the limits."""
    rates = "".join(f'    "{code}": {rate},\n' for code, rate in rates_of(runs).items())
    rows = "".join(f'    "{name}": ("{sound}", "{bugs}"),\n' for name, (sound, bugs) in margins(runs).items())
    return f'''"""What the zoo says of codes and limits: written by `python -m tests.zoo judge --write`. Do not edit.

RATES: in what share of a code's warns and errors the case has its cause. MARGINS: the values nearest to a limit, below
and above it, of sound programs and of planted bugs.
"""

RATES: dict[str, float] = {{
{rates}}}
MARGINS: dict[str, tuple[str, str]] = {{
{rows}}}
'''


def compared(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables of then and now, part by part and step by step, and a line for every run that changed."""
    cases = {run["case"]: case_of(run) for run in runs}
    left_out = {run["case"]: run["left_out"] for run in runs}
    again = [judged_again(run) for run in runs]
    before, after = (score(part, cases, lambda case: left_out[case.name]) for part in (runs, again))
    lines = [_row(HEAD), _rule(HEAD)]
    lines += [_part_row(name, before.part(part), after.part(part)) for name, part in PARTS.items()]
    lines += ["", _row(STEP_HEAD), _rule(STEP_HEAD)]
    for step in STEPS:
        then, new = ([run for run in part.bugs if run.case.step == step] for part in (before, after))
        if then:
            lines.append(_row((step, str(len(then)), *_shares(then, new))))
    told = [list(_changed(old, new, cases[old["case"]])) for old, new in zip(runs, again, strict=True)]
    others = f"{sum(map(bool, told))} of {len(runs)} runs say something else (not in another order alone):"
    return "\n".join([*lines, "", others, *(line for part in told for line in part)])


def _part_row(name: str, then: Score, now: Score) -> str:
    errors, warns = (
        _moved(*(sum(getattr(run, key) for run in part.healthy) for part in (then, now)))
        for key in ("false_error", "false_warn")
    )
    return _row((name, str(len(now.bugs)), *_shares(then.bugs, now.bugs), str(len(now.healthy)), errors, warns))


def _shares(then: Sequence[Any], now: Sequence[Any]) -> tuple[str, ...]:
    old, new = rates(then), rates(now)
    count = len(now)
    return tuple(
        _moved(*(round(count * getattr(part, key)) if count else 0 for part in (old, new)), of=count)
        for key in ("detected", "top1", "top3")
    )


def _moved(old: int, new: int, of: int = 0) -> str:
    share = f" ({100 * new / of:.1f} %)" if of else ""
    return f"{new}{share}" if old == new else f"{old} -> {new}{share}"


def _changed(old: Mapping[str, Any], new: Mapping[str, Any], case: Case) -> Iterator[str]:
    said = [[_said(step) for step in run["steps"]] for run in (old, new)]
    standing = [_standing(run, case) for run in (old, new)]
    pieces = [[sorted(text.partition(": ")[2].split(", ")) for text in texts] for texts in said]
    if pieces[0] == pieces[1] and standing[0] == standing[1]:
        return  # the order alone is another
    better = "" if standing[0] == standing[1] else f" [{standing[0]} -> {standing[1]}]"
    unknown = " (open: the step failed then, not now; run the case again)" if new["open"] else ""
    yield f"- {case.name}{' (held out)' if case.held_out else ''}{better}{unknown}"
    for step in STEPS:
        texts = [next((text for text in run if text.startswith(f"{step}:")), "") for run in said]
        if texts[0] != texts[1]:
            yield f"    then {texts[0] or '-'}"
            yield f"    now  {texts[1] or '-'}"


def _said(step: Mapping[str, Any]) -> str:
    found = ", ".join(f"{item['code']} {item['cause']} ({item['severity']})" for item in step["findings"])
    return f"{step['step']}: {found or step.get('message') or 'nothing'}"


def _standing(record: Mapping[str, Any], case: Case) -> str:
    if record["status"] != "done":
        return str(record["status"])
    run = judged(record, case)
    if case.healthy:
        return "false error" if run.false_error else "false warn" if run.false_warn else "sound"
    if not run.detected:
        return "missed"
    return "first" if run.named(1) else "in three" if run.named(3) else "detected"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(cells: Sequence[str]) -> str:
    return f"|{'---|' * len(cells)}"
