"""The report of a stage in the terminal: the answer first, then the evidence, then what to do."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.core.formatting import plural
from tuner.core.result import Finding, StageResult
from tuner.core.stage_ref import StageRef
from tuner.view import plan, terminal
from tuner.view.artifacts import get
from tuner.view.blocks import Block, Blocks
from tuner.view.page import COLOURS, Page, make_console
from tuner.view.text import as_float, setting_text, short_keys, value_text

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["make_console", "report"]

FINDINGS_SHOWN = 6
EVIDENCE_SHOWN = 5
SKIPPED_SHOWN = 4
SEVERITY_WORDS = {"error": "ERROR", "warn": "WARN", "note": "note"}


def report(result: StageResult[Any], stage_dir: Path, next_command: str, console: Console) -> None:
    """Print the report of a stage, drawn from its `result.json` and the files beside it.

    What is wrong comes before the evidence, what is only to be noted after it. The middle part comes from
    `tuner.view.reports.<stage>`: a module with `TITLE` and `body(result, stage_dir, page)`.
    """
    page = Page(console)
    _headline(page, result, stage_dir, title_of(result, stage_dir))
    shown = result.findings[:FINDINGS_SHOWN]
    wrong = [finding for finding in shown if finding.severity != "note" and not finding.accepted]
    _findings(page, "Findings", wrong)
    page.gap()
    terminal.show(body_of(result, stage_dir), page)
    _findings(page, "Notes" if wrong else "Findings", [finding for finding in shown if finding not in wrong])
    if rest := len(result.findings) - len(shown):
        where = display_path(stage_dir / "result.json")
        page.text(f"... and {plural(rest, 'finding')} more in {where}", 3, style="dim")
    terminal.show(after_of(result, stage_dir), page)
    _skipped(page, result, stage_dir)
    _files(page, stage_dir)
    if next_command:
        page.gap()
        page.command(" Next:  ", next_command)
    page.print()


def title_of(result: StageResult[Any], stage_dir: Path) -> str:
    """Return the title of a stage's report."""
    module, turn = _module(result), StageRef.parse(stage_dir.name).round
    title = module.title(result) if hasattr(module, "title") else getattr(module, "TITLE", result.stage)
    return f"{title}, round {turn}" if turn > 1 else str(title)


def body_of(result: StageResult[Any], stage_dir: Path) -> Sequence[Block]:
    """Return the evidence of a stage's report, from `tuner.view.reports.<stage>`."""
    blocks = Blocks()
    _module(result).body(result, stage_dir, blocks)
    return blocks.items


def _module(result: StageResult[Any]) -> Any:
    return stage_module("tuner.view.reports", result.stage)


def after_of(result: StageResult[Any], stage_dir: Path) -> Sequence[Block]:
    """Return what follows the findings: the changes that they propose, and what a budget bought."""
    blocks = Blocks()
    _changes(blocks, result)
    plan.outcome(stage_dir, blocks)
    return blocks.items


def stage_module(package: str, stage: str) -> Any:
    """Import a stage's module of `package`; a stage that has none gets the module `generic`."""
    try:
        return importlib.import_module(f"{package}.{stage.replace('-', '_')}")
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith(package):
            raise
        return importlib.import_module(f"{package}.generic")


def display_path(path: Path) -> str:
    """Return a path as short as it can be given from here: relative where it lies below the working directory."""
    absolute, here = Path(os.path.abspath(path)), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def _headline(page: Page, result: StageResult[Any], stage_dir: Path, title: str) -> None:
    verdict = result.verdict
    title = f" {title}"
    space = " " * max(2, page.width - len(title) - len(verdict))
    page.spans((title, "bold"), (space, ""), (verdict.upper(), COLOURS.get(verdict, "bold")))
    page.text(result.headline)


def _findings(page: Page, title: str, findings: Sequence[Finding]) -> None:
    if not findings:
        return
    page.heading(title + (", causes before what follows from them" if len(findings) > 1 else ""))
    for finding in findings:
        show_finding(page, finding)


def show_finding(page: Page, finding: Finding, brief: bool = False) -> None:
    """Add a finding: how grave it is, its code, what it says, what it rests on (not if `brief`), what to do."""
    severity, accepted = finding.severity, finding.accepted
    word = SEVERITY_WORDS[severity]
    start = f"   {word:<5}  {finding.code:<6} "
    title = finding.title + (" (accepted in the recipe)" if accepted else "")
    rows = _wrapped(title, page.width - len(start))
    page.spans((start, "dim" if accepted else COLOURS.get(severity, "")), (rows[0], "dim" if accepted else "bold"))
    for row in rows[1:]:
        page.line(" " * len(start) + row, "dim" if accepted else "bold")
    if finding.explained_by:
        page.text(f"follows from {finding.explained_by}", len(start), style="dim")
    evidence = "" if brief else evidence_text(finding.evidence, title)
    if evidence:
        page.text(f"Measured: {evidence}.", len(start), hang=4, style="dim")
    if finding.remedy:
        page.text(f"Do: {finding.remedy}", len(start), hang=4, style="dim" if accepted else "")


def _wrapped(text: str, width: int) -> list[str]:
    from tuner.view.page import wrap

    return wrap(text, width) or [""]


def evidence_text(evidence: Mapping[str, Any], title: str = "") -> str:
    """Return a finding's evidence in words: `gap 0.21, best epoch 7 and not left in eval mode`.

    Long lists and tables are left out, what is null or empty, and what the title has said already.
    """
    if not isinstance(evidence, Mapping):
        return ""
    parts = []
    for key, value in evidence.items():
        if isinstance(value, (list, tuple)) and (len(value) > 4 or any(isinstance(v, (list, dict)) for v in value)):
            continue
        if isinstance(value, Mapping) or value in ("", [], ()) or (isinstance(value, str) and len(value) > 60):
            continue
        name = str(key).replace("_", " ")
        if isinstance(value, bool):
            parts.append(name if value else f"not {name}")
            continue
        number = isinstance(value, float) and not isinstance(value, bool)
        text = setting_text(value) if number and _log_scaled(key) else _listed(value)
        if value is not None and not _said(text, title):
            parts.append(f"{name} {text}")
    shown = parts[:EVIDENCE_SHOWN]
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))


def _listed(value: Any) -> str:
    """Return a value in words; of a short list its items."""
    return " and ".join(map(value_text, value)) if isinstance(value, (list, tuple)) else value_text(value)


def _said(text: str, title: str) -> bool:
    """Return whether a title has a value already, rounded or not."""
    if text in title.replace(",", " ").replace(";", " ").split():
        return True
    value = as_float(text)
    words = [word.strip("(),;.%") for word in title.split()]
    return value is not None and any(_rounds_to(as_said, word) for as_said in (value, 100 * value) for word in words)


def _rounds_to(value: float, word: str) -> bool:
    places = len(word.partition(".")[2])
    return places > 0 and as_float(word) is not None and f"{value:.{places}f}" == word


def _log_scaled(key: object) -> bool:
    name = str(key)
    return name.endswith(("lr", "rate", "weight_decay")) or name.startswith("lr")


def _changes(page: Blocks, result: StageResult[Any]) -> None:
    changes = result.changes or [change for finding in result.findings for change in finding.changes]
    if changes:
        page.heading("Proposed changes")
    first = {(change.key, str(change.new)): change for change in reversed(changes)}
    for change in reversed(first.values()):
        text = f"{change.key}: {setting_text(change.old)} -> {setting_text(change.new)}"
        page.text(f"{text}  ({change.reason})" if change.reason else text, 3, hang=2)


def space_lines(space: Mapping[str, Any] | None, before: Mapping[str, Any] | None = None) -> list[str]:
    """Describe a search space, one key per line: `lr: 1e-4 to 1e-1 -> 0.003 to 0.03  (reason)`."""
    if not isinstance(space, Mapping):
        return []
    names = short_keys(space)
    lines = []
    for key, domain in space.items():
        text = domain_text(domain)
        old = domain_text(get(before, key)) if get(before, key) is not None else ""
        text = f"{names[key]}: {f'{old} -> ' if old and old != text else ''}{text}"
        reason = get(domain, "reason") if isinstance(domain, Mapping) else None
        lines.append(f"{text}  ({reason})" if reason else text)
    return lines


def domain_text(domain: Any) -> str:
    """Format the values that one key may take: `1e-4 to 1e-1`, `16 or 32`."""
    if isinstance(domain, Mapping) and get(domain, "choices") is not None:
        options = get(domain, "choices", default=[])
        return " or ".join(setting_text(option) for option in options) or "-"
    if isinstance(domain, Mapping) and get(domain, "low") is not None:
        low, high = get(domain, "low"), get(domain, "high")
        return setting_text(low) if low == high else f"{setting_text(low)} to {setting_text(high)}"
    return "the band of lr-sweep" if get(domain, "auto") or domain == "auto" else value_text(domain)


def _skipped(page: Page, result: StageResult[Any], stage_dir: Path) -> None:
    skipped = result.skipped
    if not skipped:
        return
    page.gap()
    shown = skipped if len(skipped) <= SKIPPED_SHOWN else skipped[: SKIPPED_SHOWN - 1]
    for item in shown:
        page.text(f"not checked: {item.check}: {item.why}", 1, 13, "dim")
    if rest := len(skipped) - len(shown):
        page.text(f"not checked: {rest} more, listed in {display_path(stage_dir / 'result.json')}", 1, 13, "dim")


def _files(page: Page, stage_dir: Path) -> None:
    plots = sorted((stage_dir / "plots").glob("*.png"))
    if plots:
        page.gap()
        where = display_path(stage_dir / "plots")
        page.line(
            f" Plots: {where}{os.sep}{{{','.join(path.stem for path in plots)}}}.png"
            if len(plots) > 1
            else f" Plot:  {where}{os.sep}{plots[0].name}",
            "dim",
        )
