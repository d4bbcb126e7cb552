"""Where a run stands: one line per stage, and why what is not fresh is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tuner.view.artifacts import get
from tuner.view.page import COLOURS, Page, wrap

if TYPE_CHECKING:
    from rich.console import Console

REASONS_SHOWN = 5
STATE_COLOURS = {"fresh": "green", "stale": "yellow", "failed": "bold red", "missing": "dim", "interrupted": "yellow"}


def status_table(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the state of every stage.

    `rows`: {stage, state: fresh | stale | missing | failed | interrupted | running, verdict, headline, reasons, when};
    what a row lacks is shown as `-`.
    """
    page = Page(console)
    stages = [str(get(row, "stage", default="-")) for row in rows]
    states = [str(get(row, "state", default="-")) for row in rows]
    first = max([len(name) for name in stages] + [5]) + 2
    second = max([len(name) for name in states] + [5]) + 2
    indent = 1 + first + second + 9
    page.line(f" {'stage':<{first}}{'state':<{second}}{'verdict':<9}result", "dim")
    for row, stage, state in zip(rows, stages, states, strict=True):
        verdict = str(get(row, "verdict", default="-"))
        lines = wrap(str(get(row, "headline", default="-")), page.width - indent) or ["-"]
        page.spans(
            (f" {stage:<{first}}", "bold"),
            (f"{state:<{second}}", STATE_COLOURS.get(state, "")),
            (f"{verdict:<9}", COLOURS.get(verdict, "dim")),
            (lines[0], ""),
        )
        for line in lines[1:]:
            page.line(" " * indent + line)
        if when := get(row, "when"):
            page.text(f"finished {str(when).replace('T', ' ')}", indent, style="dim")
        _reasons([str(reason) for reason in get(row, "reasons", default=[])], page, indent)
    page.print()


def _reasons(reasons: list[str], page: Page, indent: int) -> None:
    for reason in reasons[:REASONS_SHOWN]:
        page.text(f"- {reason}", indent, hang=2)
    if len(reasons) > REASONS_SHOWN:
        page.text(f"- and {len(reasons) - REASONS_SHOWN} more", indent, hang=2)


def rounds_lines(entries: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print what the rounds of step 7 changed, and whether each was kept and why."""
    if not entries:
        return
    page = Page(console)
    page.gap()
    for entry in entries:
        changes = "; ".join(f"{get(c, 'key')}: {get(c, 'from')} -> {get(c, 'to')}" for c in get(entry, "changes"))
        page.text(f"round {get(entry, 'round')}, built on round {get(entry, 'base')}: {changes}", 1, hang=2)
        kept = get(entry, "kept")
        words = "not decided yet" if kept is None else f"{'kept' if kept else 'not kept'}: {get(entry, 'why')}"
        page.text(words, 3, hang=2)
    page.print()
