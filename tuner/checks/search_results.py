"""What the rules of coarse and fine share: no trial left, a best value at an end of its range."""

from __future__ import annotations

from tuner.checks.cards import Missing, found, need
from tuner.checks.coarse.evidence import Coarse
from tuner.checks.fine.evidence import Fine
from tuner.core.formatting import value_text
from tuner.core.result import Finding, telling_line


def none_left(code: str, search: Coarse | Fine) -> Finding | None:
    """Report that no configuration ended with a score, grouped by how they ended."""
    trials = need(search.trials, "no trial was run")
    if scored(search) or not trials:
        return None
    failures = search.failures
    parts = [f"{entry['count']} {kind}: {first_line(entry['message'])}" for kind, entry in sorted(failures.items())]
    if search.diverged:
        parts.append(f"{search.diverged} diverged")
    seen = {"trials": trials, "diverged": search.diverged, "failures": failures}
    return found(code, "error", f"all {trials} trials failed ({'; '.join(parts)})", evidence=seen)


def scored(search: Coarse | Fine) -> int:
    """Return how many trials were trained, to the end or to a rung."""
    return search.completed + search.stopped


def first_line(message: str) -> str:
    """Return the line of a message that says what happened, or that there is none."""
    return telling_line(message)


def edge(code: str, search: Coarse | Fine, remedy: str) -> Finding | None:
    """Report a best value at an end of its range that could be moved."""
    if search.best_params is None:
        raise Missing("no trial has a score")
    at = search.at_border
    if not at:
        return None
    where = ", ".join(f"{key} = {value_text(search.best_params[key])} ({end} end)" for key, end in at.items())
    seen = {"at_border": at, "params": search.best_params}
    return found(code, "note", f"the best lies at the border of the space: {where}", evidence=seen, remedy=remedy)
