"""What comes before the reports of several steps: what is wrong, what to do about it, and how each step ended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.core.formatting import plural
from tuner.core.result import SEVERITIES, Finding, StageResult, Verdict
from tuner.view.console import display_path, show_finding
from tuner.view.page import COLOURS, Page

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 3  # findings, so that they and the steps fit the first screen
WORST: tuple[Verdict, ...] = ("fail", "warn", "pass")

Steps = Sequence[tuple[str, StageResult[Any]]]


def _end_of(path: str, width: int) -> str:
    """Return a path that fits: of a longer one the end, which tells runs apart."""
    return path if len(path) <= width else f"...{path[-(width - 3) :]}"


def overview(run: Path, steps: Steps, console: Console) -> None:
    """Print the run's verdict, the findings that count, causes first, and a line of how each step ended."""
    page = Page(console)
    verdict = min((result.verdict for _, result in steps), key=WORST.index)
    title = f" RUN  {_end_of(display_path(run), page.width - len(' RUN    ') - len(verdict))}"
    space = " " * max(2, page.width - len(title) - len(verdict))
    page.spans((title, "bold"), (space, ""), (verdict.upper(), COLOURS[verdict]))
    found = urgent(steps)
    if not found:
        page.text(f"No step found anything wrong; {steps[-1][0]} says: {steps[-1][1].headline}")
    for label, finding in found[:SHOWN]:
        page.gap()
        page.text(f"{label}:", 1, style="bold")
        show_finding(page, finding, brief=True)
    if len(found) > SHOWN:
        page.text(f"... and {plural(len(found) - SHOWN, 'finding')} more below", 3, style="dim")
    page.gap()
    ends = ", ".join(f"{label} {result.verdict.upper()}" for label, result in steps)
    page.text(f"Steps: {ends}.", 1, 7)
    page.line()
    page.print()


def urgent(steps: Steps) -> list[tuple[str, Finding]]:
    """Return the errors and warnings that are not accepted and follow from no other, the worst first, in step order."""
    found = [(label, finding) for label, result in steps for finding in result.findings]
    kept = [pair for pair in found if pair[1].severity != "note" and not pair[1].accepted]
    codes = {finding.code for _, finding in kept}
    causes = [pair for pair in kept if pair[1].explained_by not in codes]
    return sorted(causes, key=lambda pair: -SEVERITIES.index(pair[1].severity))
