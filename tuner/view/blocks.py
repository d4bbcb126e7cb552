"""The blocks that a report is made of. The terminal and the HTML page are drawn from the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.view.curves import Plot, Series


@dataclass(frozen=True)
class Heading:
    """The title of a part of the report."""

    text: str


@dataclass(frozen=True)
class Text:
    """Running text. `indent` and `hang` (of the lines after the first) are in characters, for the terminal."""

    text: str
    indent: int = 1
    hang: int = 0
    style: str = ""


@dataclass(frozen=True)
class Gap:
    """An empty line of the terminal; the page has its own distances."""


@dataclass(frozen=True)
class Share:
    """A cell of a table that is drawn as a bar: 0 to 1."""

    value: float


Cell = str | Share


@dataclass(frozen=True)
class Table:
    """Rows under headers. `left`: columns set flush left (the others, numbers, flush right). `optional`: columns left
    out, in this order, while a terminal is too narrow. `styles`: one per row.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    left: Sequence[int] = (0,)
    optional: Sequence[int] = ()
    styles: Sequence[str] = ()


@dataclass(frozen=True)
class Bars:
    """A line of bars, one per value, the lowest at 0."""

    values: Sequence[float]


@dataclass(frozen=True)
class Matrix:
    """Counts, one row per true class, one column per answer."""

    title: str
    counts: Sequence[Sequence[int]]
    names: Sequence[str]


Block = Heading | Text | Gap | Table | Plot | Bars | Matrix


@dataclass
class Blocks:
    """Collects the blocks of a report in their order."""

    items: list[Block] = field(default_factory=list)

    def heading(self, text: str) -> None:
        self.items.append(Heading(text))

    def text(self, text: str, indent: int = 1, hang: int = 0, style: str = "") -> None:
        self.items.append(Text(text, indent, hang, style))

    def gap(self) -> None:
        self.items.append(Gap())

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[Cell]], **options: Any) -> None:
        if rows:
            self.items.append(Table(headers, rows, **options))

    def plot(self, title: str, series: Sequence[Series], **options: Any) -> None:
        if any(y is not None for part in series for y in part.y):
            self.items.append(Plot(title, series, **options))

    def bars(self, values: Sequence[float]) -> None:
        self.items.append(Bars(values))

    def matrix(self, title: str, counts: Sequence[Sequence[int]], names: Sequence[str]) -> None:
        self.items.append(Matrix(title, counts, names))
