"""A page of a report: lines of plain text, laid out to a width, styled only as decoration, printed at the end."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuner.core.shell import broken_lines
from tuner.view import curves

if TYPE_CHECKING:
    from rich.console import Console

NARROWEST, WIDEST = 60, 100
COLOURS = {"pass": "bold green", "warn": "bold yellow", "fail": "bold red", "error": "bold red", "note": "cyan"}


def make_console(stderr: bool = False) -> Console:
    """Return the console of stdout or stderr: plain text 80 wide in a pipe, no styles at all under NO_COLOR."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    on_terminal = stream.isatty()
    plain = not on_terminal or "NO_COLOR" in os.environ
    return Console(
        file=stream,
        width=None if on_terminal else 80,
        force_terminal=on_terminal,
        color_system=None if plain else "auto",
        highlight=False,
        markup=False,
        emoji=False,
    )


def encodable(encoding: str | None, text: str) -> bool:
    """Return whether `text` can be written in that encoding."""
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class Page:
    """Collects the lines of a report for one console."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.width = max(NARROWEST, min(console.width, WIDEST))
        self.unicode = encodable(console.encoding, "●○▲◆┤│└─┬·┄┊⠒")
        self.styled = "NO_COLOR" not in os.environ and not console.no_color
        self.lines: list[list[tuple[str, str]]] = []

    def line(self, text: str = "", style: str = "") -> None:
        """Add one line as it is."""
        self.lines.append([(text, style)])

    def spans(self, *spans: tuple[str, str]) -> None:
        """Add one line made of (text, style) pieces."""
        self.lines.append(list(spans))

    def gap(self) -> None:
        """Add an empty line, unless there is one already."""
        if self.lines and any(text.strip() for text, _ in self.lines[-1]):
            self.line()

    def text(self, text: str, indent: int = 1, hang: int = 0, style: str = "") -> None:
        """Add running text, wrapped; lines after the first are indented by `hang` more."""
        for part in text.split("\n"):
            for row in wrap(part, self.width - indent, hang):
                self.line(" " * indent + row, style)

    def heading(self, text: str) -> None:
        """Add a heading after an empty line."""
        self.gap()
        self.line(f" {text}", "bold")

    def table(
        self,
        headers: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        left: Sequence[int] = (0,),
        optional: Sequence[int] = (),
        indent: int = 3,
        styles: Sequence[str] = (),
    ) -> None:
        """Add a table, columns two or three spaces apart.

        `left`: columns set flush left (the others, numbers, flush right). `optional`: columns left out, in this order,
        while the table is too wide; then the widest text column is wrapped. `styles`: one per row.
        """
        if not rows:
            return
        grid = [list(headers), *[[str(cell) for cell in row] for row in rows]]
        kept = list(range(len(headers)))
        for column in [None, *optional]:
            kept = [index for index in kept if index != column]
            widths = {index: max(len(row[index]) for row in grid) for index in kept}
            space = 3
            while space > 1 and indent + sum(widths.values()) + space * (len(kept) - 1) > self.width:
                space -= 1
            excess = indent + sum(widths.values()) + space * (len(kept) - 1) - self.width
            if excess <= 0:
                break
        if excess > 0:
            widest = max((index for index in kept if index in left), key=lambda i: widths[i], default=kept[-1])
            widths[widest] = max(8, widths[widest] - excess)
        for number, row in enumerate(grid):
            style = "dim" if number == 0 else styles[number - 1] if styles else ""
            cells = {index: wrap(row[index], widths[index]) or [""] for index in kept}
            for part in range(max(len(cell) for cell in cells.values())):
                texts = []
                for index in kept:
                    text = cells[index][part] if part < len(cells[index]) else ""
                    texts.append(f"{text:<{widths[index]}}" if index in left else f"{text:>{widths[index]}}")
                self.line((" " * indent + (" " * space).join(texts)).rstrip(), style)

    def plot(self, plot: curves.Plot) -> None:
        """Add a text plot under its title; nothing below it when there is nothing to draw."""
        self.gap()
        self.text(plot.title, 3, style="bold")
        for line in curves.plot(plot, self.width - 3, self.unicode):
            self.line(f"  {line}")

    def command(self, label: str, command: str) -> None:
        """Add a command to type: on its own lines when long, broken only where a shell takes it."""
        if len(label) + len(command) <= self.width:
            self.spans((label, "bold"), (command, "bold"))
            return
        self.line(label.rstrip(), "bold")
        for line in broken_lines(command, self.width - 4):
            self.line(f"   {line}", "bold")

    def print(self) -> None:
        """Write the page."""
        from rich.text import Text

        for spans in self.lines:
            line = Text()
            for text, style in spans:
                line.append(self.printable(text), style if self.styled else "")
            line.rstrip()
            self.console.print(line, soft_wrap=True, highlight=False)

    def printable(self, text: str) -> str:
        """Drop control characters, and replace what the console's encoding cannot write."""
        text = "".join(char if char.isprintable() else " " for char in text)
        encoding = self.console.encoding or "ascii"
        return text if encodable(encoding, text) else text.encode("ascii", "replace").decode()


def wrap(text: str, width: int, hang: int = 0) -> list[str]:
    """Wrap running text; words longer than a line (paths) are cut only there."""
    return textwrap.wrap(
        text, max(width, 8), subsequent_indent=" " * hang, break_long_words=True, break_on_hyphens=False
    )
