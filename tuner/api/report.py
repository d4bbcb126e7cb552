"""What a check in Python gives: it prints as the command's report does, in a terminal and in a notebook."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.core.result import Finding, StageResult
from tuner.view import console


@dataclass(frozen=True)
class Report:
    """The results of one or more steps: `print(report)`, `.passed`, `.findings`, `.assert_passed()`."""

    results: tuple[StageResult, ...]

    @property
    def findings(self) -> Sequence[Finding]:
        """The findings of every step, in the order in which they are shown."""
        return [finding for result in self.results for finding in result.findings]

    @property
    def passed(self) -> bool:
        """Whether no step has an error; warnings and notes pass."""
        return all(result.verdict != "fail" for result in self.results)

    def assert_passed(self) -> None:
        """Raise an AssertionError with the whole report unless every step passed."""
        if not self.passed:
            raise AssertionError(f"tuner found an error:\n{self}")

    def __str__(self) -> str:
        return "\n".join(_printed(result) for result in self.results)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the report as a notebook shows it."""
        return f"<pre style='line-height:1.25'>{html.escape(str(self))}</pre>"


def _printed(result: StageResult) -> str:
    from rich.console import Console

    text = io.StringIO()
    page = Console(file=text, width=88, color_system=None, highlight=False, markup=False, emoji=False)
    console.report(result, Path(result.stage), "", page)
    return text.getvalue()
