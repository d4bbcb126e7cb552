"""The score as text: the tables in Markdown, the lists of misses and false alarms."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from tests.zoo.case import STEPS
from tests.zoo.score import Judged, Rates, Score, baselines, rates
from tuner.core.statistics import wilson

PARTS = {"all": None, "developed on": False, "held out": True}
HEAD = ("bugs found by", "runs", "detected", "95 % interval", "at that step", "top-1 cause", "top-3", "seconds")


def tables(score: Score) -> str:
    """Return the score's tables in Markdown."""
    lines = [*_row(HEAD), *_rule(HEAD)]
    for step in STEPS:
        if runs := [run for run in score.bugs if run.case.step == step]:
            lines += _rates_row(step, rates(runs))
    for name, held_out in PARTS.items():
        lines += _rates_row(f"**{name}**", rates(score.part(held_out).bugs))
    for name, expected in baselines(score.bugs).items():
        lines += _rates_row(name, expected)
    head = ("healthy look-alikes", "runs", "false errors", "false warns", "95 % interval", "seconds for all steps")
    lines += ["", *_row(head), *_rule(head)]
    for name, held_out in PARTS.items():
        lines += _healthy_row(name, score.part(held_out).healthy)
    return "\n".join(lines)


def lists(score: Score) -> str:
    """Return the misses, the wrongly named and the false alarms, each with what was said instead."""
    sections = {
        "Missed": score.misses,
        "Detected, first named as something else": score.misnamed,
        "False alarms": score.false_alarms,
    }
    lines: list[str] = []
    for title, runs in sections.items():
        lines += ["", f"{title}: {len(runs)} runs"]
        lines += [f"- {_told(run)}" for run in sorted(runs, key=lambda run: (run.case.name, run.seed))]
    lines += ["", f"Left out: {len(score.left_out)} cases"]
    lines += [f"- {name}: {why}" for name, why in sorted(score.left_out.items())]
    return "\n".join(lines)


def _told(run: Judged) -> str:
    said = ", ".join(run.said) or "nothing"
    name = f"{run.case.name} (seed {run.seed}, {run.case.base})"
    if run.case.healthy:
        return f"{name}: {said}"
    at = f"{run.step} said {said}" if run.step else f"said {said}"
    return f"{name}: {run.case.step} should say {' or '.join(run.case.causes)}; {at}"


def _rates_row(name: str, found: Rates) -> Iterator[str]:
    if not found.n:
        return
    low, high = found.interval
    seconds = "-" if found.seconds is None else f"{found.seconds:.1f}"
    shares = (_percent(found.at_expected), _percent(found.top1), _percent(found.top3))
    yield from _row(
        (name, str(found.n), _percent(found.detected), f"{_percent(low)} - {_percent(high)}", *shares, seconds)
    )


def _healthy_row(name: str, runs: Sequence[Judged]) -> Iterator[str]:
    if not runs:
        return
    errors, warns = sum(run.false_error for run in runs), sum(run.false_warn for run in runs)
    low, high = wilson(len([run for run in runs if run.false_error or run.false_warn]) / len(runs), len(runs))
    middle = statistics.median(run.seconds for run in runs)
    counts = (str(len(runs)), str(errors), f"{warns} ({_percent(warns / len(runs))})")
    yield from _row((name, *counts, f"{_percent(low)} - {_percent(high)}", f"{middle:.1f}"))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _row(cells: Sequence[str]) -> Iterator[str]:
    yield f"| {' | '.join(cells)} |"


def _rule(cells: Sequence[str]) -> Iterator[str]:
    yield f"|{'---|' * len(cells)}"
