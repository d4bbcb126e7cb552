"""Blocks as lines of a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.view.blocks import Bars, Block, Cell, Gap, Heading, Matrix, Plot, Share, Table, Text
from tuner.view.page import Page

BARS = "▁▂▃▄▅▆▇█"
BAR_WIDTH = 40  # characters of a line of bars
SHARE_WIDTH = 24  # characters of a share of 1
CLASSES_SHOWN = 20


def show(blocks: Sequence[Block], page: Page) -> None:
    """Add blocks to a page."""
    for block in blocks:
        match block:
            case Heading():
                page.heading(block.text)
            case Text():
                page.text(block.text, block.indent, block.hang, block.style)
            case Gap():
                page.gap()
            case Table():
                rows = [[_cell(cell, page) for cell in row] for row in block.rows]
                page.table(block.headers, rows, left=block.left, optional=block.optional, styles=block.styles)
            case Plot():
                page.plot(block)
            case Bars():
                if page.unicode:
                    page.line("   " + bars(block.values, min(BAR_WIDTH, len(block.values))), "cyan")
            case Matrix():
                _matrix(block, page)


def _cell(cell: Cell, page: Page) -> str:
    if isinstance(cell, Share):
        return ("\u2588" if page.unicode else "#") * round(SHARE_WIDTH * cell.value)
    return cell


def bars(values: Sequence[float], width: int) -> str:
    """Draw values as a line of bars, the lowest bar at 0 or below."""
    top = max(values)
    picked = [values[round(i * (len(values) - 1) / max(width - 1, 1))] for i in range(width)]
    return "".join(BARS[round(max(0.0, value / top) * (len(BARS) - 1))] for value in picked) if top > 0 else ""


def _matrix(block: Matrix, page: Page) -> None:
    """Draw a matrix of counts where it fits, names cut as short as they must be."""
    matrix, names = block.counts, block.names
    if len(matrix) > CLASSES_SHOWN:
        return
    longest = min(max(map(len, names)), 12)
    digits = max(len(str(count)) for row in matrix for count in row)
    room = page.width - 10
    wanted = [wide for wide in range(digits, digits + 4) if wide == digits or wide <= longest]
    digits = max((wide for wide in wanted if longest + len(matrix) * (wide + 1) <= room), default=digits)
    label = min(longest, room - len(matrix) * (digits + 1))
    if label < min(3, longest):
        return
    short = [name if len(name) <= label else name[: label - 1] + "." for name in names]
    heads = [name[:digits] if max(map(len, names)) > digits else name for name in names]
    page.heading(block.title)
    page.line("   " + " " * label + "".join(f" {head:>{digits}}" for head in heads) + "  right", "dim")
    for index, row in enumerate(matrix):
        total = sum(row)
        right = f"{row[index] / total * 100:.0f} %" if total else "-"
        cells = "".join(f" {count if count else '.':>{digits}}" for count in row)
        page.line(f"   {short[index]:<{label}}{cells}  {right:>5}")
