"""Blocks as HTML. Every text is escaped; nothing of a run is ever markup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from tuner.view.blocks import Bars, Block, Cell, Gap, Heading, Matrix, Plot, Share, Table, Text

HEAT = 0.45  # opacity of a cell of the confusion matrix that has the whole row
CLASSES_SHOWN = 40


def render(blocks: Sequence[Block], figure: Callable[[Plot], str]) -> str:
    """Return the HTML of blocks; `figure` takes a plot into the page and returns its element."""
    return "\n".join(filter(None, (_block(block, figure) for block in blocks)))


def _block(block: Block, figure: Callable[[Plot], str]) -> str:
    match block:
        case Heading():
            return f"<h3>{escape(block.text)}</h3>"
        case Text():
            return f"<p>{escape(block.text)}</p>"
        case Gap():
            return ""
        case Table():
            return table(block)
        case Plot():
            return figure(block)
        case Bars():
            top = max(block.values, default=0.0)
            bars = "".join(f'<span style="height:{max(0.0, value / top):.0%}"></span>' for value in block.values)
            return f'<div class="bars" aria-hidden="true">{bars}</div>' if top > 0 else ""
        case Matrix():
            return _matrix(block)


def table(block: Table) -> str:
    """Return a table; it scrolls by itself where it is wider than the page."""
    side = [' class="l"' if i in block.left else "" for i in range(len(block.headers))]
    head = "".join(f'<th scope="col"{side[i]}>{escape(text)}</th>' for i, text in enumerate(block.headers))
    body = "".join(
        "<tr>" + "".join(f"<td{side[i]}>{_cell(cell)}</td>" for i, cell in enumerate(row)) + "</tr>"
        for row in block.rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(cell: Cell) -> str:
    if isinstance(cell, Share):
        return f'<span class="share" style="width:{8 * max(0.0, cell.value):.2f}rem"></span>'
    return escape(cell)


def _matrix(block: Matrix) -> str:
    if len(block.counts) > CLASSES_SHOWN:
        return ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in block.names)
    rows = []
    for name, counts in zip(block.names, block.counts, strict=True):
        total = max(sum(counts), 1)
        cells = "".join(
            f'<td style="background:rgba(var(--heat),{HEAT * count / total:.3f})">{count if count else "·"}</td>'
            for count in counts
        )
        rows.append(f'<tr><th scope="row" class="l">{escape(name)}</th>{cells}</tr>')
    return (
        f'<h3>{escape(block.title)}</h3><div class="scroll"><table><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
