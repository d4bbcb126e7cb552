"""Line and scatter plots in text, for terminals and pipes: several series, linear or log axes, ticks and a legend."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tuner.core.formatting import rates
from tuner.view.text import is_number, number

GLYPHS = ("●", "○", "▲", "+", "x", "◆")
ASCII_GLYPHS = ("o", "+", "*", "#", "%", "@")
PLAIN = {"●": "o", "○": ".", "▲": "^", "◆": "*", "┤": "|", "│": "|", "└": "+", "─": "-", "┬": "+", "·": ".", "┄": "-"}
PLAIN |= {"┊": ":"}
BRAILLE = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # dots of one character, by row and column


@dataclass(frozen=True)
class Series:
    """Points to draw. `line` joins them; `at_top`: points without a y are shown at the upper edge (what diverged)."""

    name: str
    x: Sequence[float | None]
    y: Sequence[float | None]
    glyph: str = ""
    line: bool = True
    at_top: bool = False


@dataclass(frozen=True)
class Mark:
    """A level of y or a place of x worth a thin line, with its name in the legend."""

    value: float | None
    name: str


@dataclass(frozen=True)
class Plot:
    """Series over two axes. `levels` are thin lines at a y, `places` at an x."""

    title: str
    series: Sequence[Series]
    height: int = 10
    x_label: str = ""
    y_label: str = ""
    log_x: bool = False
    log_y: bool = False
    levels: Sequence[Mark] = ()
    places: Sequence[Mark] = ()


@dataclass(frozen=True)
class Axis:
    """Maps values to 0..1; what cannot be shown (None, NaN, infinities, zero on a log axis) maps to None."""

    low: float
    high: float
    log: bool

    def place(self, value: float | None) -> float | None:
        if not _usable(value, self.log):
            return None
        assert value is not None
        low, high, value = (
            (math.log10(v) for v in (self.low, self.high, value))
            if self.log
            else (
                self.low,
                self.high,
                value,
            )
        )
        place = (value - low) / (high - low)
        return place if -1e-9 <= place <= 1 + 1e-9 else None


def _usable(value: object, log: bool) -> bool:
    return is_number(value) and (not log or value > 0)  # type: ignore[operator]


def make_axis(values: Sequence[float | None], log: bool) -> Axis:
    """Return the axis that shows all usable values; one value, or none, gets room around it."""
    kept = [float(value) for value in values if value is not None and _usable(value, log)]
    if not kept:
        return Axis(0.1, 1.0, log) if log else Axis(0.0, 1.0, log)
    low, high = min(kept), max(kept)
    if log:
        return Axis(low, high, True) if high > low * 1.0001 else Axis(low / 2, high * 2, True)
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return Axis(low, high, False)
    pad = abs(low) * 0.1 or 0.5
    return Axis(low - pad, high + pad, False)


def ticks(axis: Axis, count: int) -> list[float]:
    """Return about `count` round values inside the axis."""
    if axis.log:
        return _log_ticks(axis, count)
    span = axis.high - axis.low
    raw = span / max(count, 1)
    power = 10 ** math.floor(math.log10(raw))
    step = next((m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999), 10 * power)
    first = math.ceil(axis.low / step - 1e-9)
    last = math.floor(axis.high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def _log_ticks(axis: Axis, count: int) -> list[float]:
    low, high = math.log10(axis.low), math.log10(axis.high)
    decades = range(math.floor(low), math.ceil(high) + 1)
    inside: list[float] = []
    for parts in ((1,), (1, 3), (1, 2, 5)):  # round powers alone where there are enough of them
        inside = [m * 10.0**d for d in decades for m in parts if axis.low * 0.999 <= m * 10.0**d <= axis.high * 1.001]
        if len(inside) >= 3:
            break
    else:  # less than a decade, where round steps are as good
        return ticks(replace(axis, log=False), count)
    stride = math.ceil(len(inside) / max(count + 1, 1))
    return inside[:: max(stride, 1)]


def plot(asked: Plot, width: int, unicode: bool = True) -> list[str]:
    """Draw the series into lines of text at most `width` wide and about `height` + 4 high; the title is left out.

    A single dense line is drawn in dots (braille), everything else in one glyph per series, so that series can be told
    apart without colour. Nothing that can be shown gives an empty list.
    """
    points = [(x, y) for item in asked.series for x, y in zip(item.x, item.y, strict=False)]
    x_axis = make_axis([x for x, _ in points] + [mark.value for mark in asked.places], asked.log_x)
    y_axis = make_axis([y for _, y in points] + [mark.value for mark in asked.levels], asked.log_y)
    if not any(_usable(x, asked.log_x) and _usable(y, asked.log_y) for x, y in points):
        return []
    at = ticks(y_axis, max(3, round(asked.height / 2.5)))
    labels = dict(zip(at, tick_texts(at, asked.log_y), strict=True))
    margin = max([len(text) for text in labels.values()] + [4]) + 1
    canvas = Canvas(max(width - margin - 1, 10), asked.height, x_axis, y_axis)
    for mark in asked.levels:
        canvas.level(mark.value)
    for mark in asked.places:
        canvas.place(mark.value)
    used = _draw(canvas, asked.series, unicode)
    lines = [f"{'':{margin}} {asked.y_label}"] if asked.y_label else []
    rows = {canvas.row(value): text for value, text in labels.items()}
    for index, row in enumerate(canvas.cells):
        lines.append(f"{rows.get(index, ''):>{margin}}{'┤' if index in rows else '│'}{''.join(row)}")
    whole = not asked.log_x and all(float(x).is_integer() for x, _ in points if x is not None and is_number(x))
    axis_lines, x_label = _x_axis(canvas, margin, asked.log_x, whole, asked.x_label)
    legend = [f"{glyph} {item.name}" for item, glyph in used if item.name]
    legend += [f"┄ {mark.name}" for mark in asked.levels if mark.name and is_number(mark.value)]
    legend += [f"┊ {mark.name}" for mark in asked.places if mark.name and is_number(mark.value)]
    lines += axis_lines + _legend(legend, x_label, width - margin - 1, margin + 1)
    if not unicode:
        lines = ["".join(PLAIN.get(char, char) for char in line) for line in lines]
    return [line.rstrip()[:width] for line in lines]


def tick_texts(values: Sequence[float], log: bool) -> list[str]:
    """Return the labels of an axis, all in one form."""
    return rates(values) if log else [number(float(f"{value:.10g}"), 4) for value in values]


def _flow(parts: Sequence[str], width: int, indent: int) -> list[str]:
    """Set parts side by side, three spaces apart, in as many lines as they need."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 3 + len(part) <= width:
            lines[-1] += "   " + part
        else:
            lines.append(part)
    return [" " * indent + line for line in lines]


def _draw(canvas: Canvas, series: Sequence[Series], unicode: bool) -> list[tuple[Series, str]]:
    """Draw every series (the first on top) and return them with the glyph that stands for each in the legend."""
    glyphs = GLYPHS if unicode else ASCII_GLYPHS
    used = []
    for index, item in enumerate(series):
        glyph = item.glyph or glyphs[index % len(glyphs)]
        used.append((item, glyph if unicode else PLAIN.get(glyph, glyph)))
    dense = len(series) == 1 and series[0].line and len(series[0].x) > canvas.width // 2
    if dense and unicode:
        canvas.dots(series[0])
        return [(series[0], "⠒")]
    for item, _ in reversed(used):
        if item.line and len(item.x) <= canvas.width // 2:
            canvas.join(item)
    for item, glyph in reversed(used):
        canvas.points(item, glyph)
    return used


def _legend(parts: Sequence[str], label: str, width: int, indent: int) -> list[str]:
    """Return the legend's lines, and at the right the axis label that found no room on the axis."""
    lines = _flow(parts, width, indent)
    if not label:
        return lines
    if lines and len(lines[0]) + 2 + len(label) <= width + indent:
        return [f"{lines[0]:<{width + indent - len(label)}}{label}", *lines[1:]]
    return [f"{label:>{width + indent}}", *lines]


def _x_axis(canvas: Canvas, margin: int, log_x: bool, whole: bool, label: str) -> tuple[list[str], str]:
    """Return the line of the x axis, that of its tick labels, and the axis label unless it stands there too.

    `whole`: no ticks between whole numbers, as of epochs.
    """
    width = canvas.width
    rule, labels = ["─"] * width, [" "] * (width + margin)
    end = -2
    at = [
        value for value in ticks(canvas.x_axis, max(2, width // 10)) if not whole or float(round(value, 9)).is_integer()
    ]
    for value, text in zip(at, tick_texts(at, log_x), strict=True):
        column = canvas.column(value)
        start = max(0, min(column - len(text) // 2, width - len(text)))
        if column < 0 or start <= end + 1:
            continue
        rule[column] = "┬"
        labels[start : start + len(text)] = text
        end = start + len(text)
    text = "".join(labels).rstrip()
    if label and len(text) + 2 + len(label) <= width:
        text = f"{text:<{width - len(label)}}{label}"
        label = ""
    return [f"{'':{margin}}└{''.join(rule)}", f"{'':{margin}} {text}"], label


class Canvas:
    """A grid of characters with axes; row 0 is the top."""

    def __init__(self, width: int, height: int, x_axis: Axis, y_axis: Axis) -> None:
        self.width, self.height, self.x_axis, self.y_axis = width, height, x_axis, y_axis
        self.cells = [[" "] * width for _ in range(height)]

    def column(self, x: float | None) -> int:
        """Return the column of a value, -1 where it cannot be shown."""
        place = self.x_axis.place(x)
        return -1 if place is None else min(self.width - 1, max(0, round(place * (self.width - 1))))

    def row(self, y: float | None) -> int:
        """Return the row of a value, -1 where it cannot be shown."""
        place = self.y_axis.place(y)
        return -1 if place is None else min(self.height - 1, max(0, round((1 - place) * (self.height - 1))))

    def level(self, y: float | None) -> None:
        row = self.row(y)
        for column in range(self.width if row >= 0 else 0):
            self.cells[row][column] = "┄"

    def place(self, x: float | None) -> None:
        column = self.column(x)
        for row in range(self.height if column >= 0 else 0):
            self.cells[row][column] = "┊"

    def points(self, item: Series, glyph: str) -> None:
        for x, y in zip(item.x, item.y, strict=False):
            column, row = self.column(x), self.row(y)
            if row < 0 and item.at_top and column >= 0:
                row = 0
            if column >= 0 and row >= 0:
                self.cells[row][column] = glyph

    def join(self, item: Series) -> None:
        """Draw faint dots between neighbouring points; a missing point leaves a gap."""
        for start, end in _neighbours(item):
            _trace(self.column, self.row, start, end, self._faint)

    def _faint(self, column: int, row: int) -> None:
        if self.cells[row][column] in " ┄┊":
            self.cells[row][column] = "·"

    def dots(self, item: Series) -> None:
        """Draw a line in braille dots: two columns and four rows per character."""
        fine = Canvas(self.width * 2, self.height * 4, self.x_axis, self.y_axis)
        bits: dict[tuple[int, int], int] = {}

        def put(column: int, row: int) -> None:
            cell = (row // 4, column // 2)
            bits[cell] = bits.get(cell, 0) | BRAILLE[row % 4][column % 2]

        for start, end in _neighbours(item):
            _trace(fine.column, fine.row, start, end, put)
        for (row, column), value in bits.items():
            self.cells[row][column] = chr(0x2800 + value)


Point = tuple[float | None, float | None]


def _neighbours(item: Series) -> list[tuple[Point, Point]]:
    points = list(zip(item.x, item.y, strict=False))
    return list(itertools.pairwise(points))


def _trace(
    column: Callable[[float | None], int],
    row: Callable[[float | None], int],
    start: Point,
    end: Point,
    put: Callable[[int, int], None],
) -> None:
    """Put every cell of the straight line between two points; nothing where one of them cannot be shown."""
    c0, r0, c1, r1 = column(start[0]), row(start[1]), column(end[0]), row(end[1])
    if min(c0, r0, c1, r1) < 0:
        return
    steps = max(abs(c1 - c0), abs(r1 - r0), 1)
    for i in range(steps + 1):
        put(round(c0 + (c1 - c0) * i / steps), round(r0 + (r1 - r0) * i / steps))
