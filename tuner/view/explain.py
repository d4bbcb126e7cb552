"""A rule's card for `tuner explain CODE`, and the table of all codes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from tuner.view.page import Page

if TYPE_CHECKING:
    from rich.console import Console


class Card(Protocol):
    """What the view reads of a rule."""

    @property
    def code(self) -> str: ...
    @property
    def cause(self) -> str: ...
    @property
    def stage(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def meaning(self) -> str: ...
    @property
    def detected(self) -> str: ...
    @property
    def why(self) -> str: ...
    @property
    def fix(self) -> str: ...
    @property
    def confused_with(self) -> str: ...
    @property
    def source(self) -> str: ...


PARTS = (
    ("What it means", "meaning"),
    ("How it is detected", "detected"),
    ("Why it matters", "why"),
    ("What it is confused with", "confused_with"),
    ("What to do", "fix"),
    ("Source", "source"),
)


def explain(rule: Card, console: Console) -> None:
    """Print the card of a rule."""
    page = Page(console)
    where = f"found by {rule.stage}"
    title = f" {rule.code}  {rule.name}"
    page.spans((title, "bold"), (f"{where:>{max(len(where) + 2, page.width - len(title))}}", "dim"))
    if rule.cause:
        page.line(f" cause: {rule.cause}", "dim")
    for heading, field in PARTS:
        text = str(getattr(rule, field, "") or "")
        if text:
            page.heading(heading)
            page.text(" ".join(text.split()), 3)
    page.gap()
    accepted = f'[accept] codes = ["{rule.code}"], reason = "..."'
    page.text(f"If you know it and mean it, put it in the recipe:  {accepted}", 1, 2, "dim")
    page.print()


def listing(rules: Iterable[Card], order: Sequence[str], console: Console) -> None:
    """Print what every step looks for: a line per code, in the order of the steps."""
    page = Page(console)
    by_stage: dict[str, list[Card]] = {}
    for rule in rules:
        by_stage.setdefault(rule.stage, []).append(rule)
    for stage in [*(name for name in order if name in by_stage), *sorted(set(by_stage) - set(order))]:
        page.heading(f"{stage}: {len(by_stage[stage])} checks")
        for rule in sorted(by_stage[stage], key=lambda rule: rule.code):
            page.text(f"{rule.code:<7} {rule.name}", 3, 8)
    page.gap()
    page.text("tuner explain CODE says what one means, how it is detected, and what to do.")
    page.print()


def rules_table(rules: Iterable[Card]) -> str:
    """Return all rules as a Markdown table, sorted by code."""
    lines = ["| code | stage | cause | what it means |", "|---|---|---|---|"]
    for rule in sorted(rules, key=lambda rule: rule.code):
        cells = (rule.code, rule.stage, rule.cause, rule.meaning)
        lines.append("| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def codes_page(rules: Iterable[Card], order: Sequence[str]) -> str:
    """Return the page of all codes, `docs/codes.md`: a table for each step; `order`: the steps of the checklist."""
    by_stage: dict[str, list[Card]] = {}
    for rule in rules:
        by_stage.setdefault(rule.stage, []).append(rule)
    order = [stage for stage in order if stage in by_stage] + sorted(set(by_stage) - set(order))
    count = sum(map(len, by_stage.values()))
    intro = (
        f"# Codes\n\nThe {count} checks of the checklist, made from the rules by `make docs`; "
        "`tuner explain CODE` tells more.\n"
    )
    return "\n".join([intro, *(f"## {stage}\n\n{rules_table(by_stage[stage])}" for stage in order)])
