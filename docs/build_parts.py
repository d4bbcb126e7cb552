"""Write docs/parts.md: every part from its card with the test that it stands on, and every row of the sources.

python docs/build_parts.py
"""

from __future__ import annotations

import re
from pathlib import Path

from tuner.recipe.cards import Card, cards, kinds

HERE = Path(__file__).parent
TESTS = ("tests/parts", "tests/train", "tests/recipe")
INTRO = """# The parts of recipes

Written by `make docs` from the docstrings of the parts (`tuner parts KIND` shows the same) and from the tests.
`low to high` is the range that `[search]` takes for `"auto"`; *log*: searched in the logarithm.
"""


def page() -> str:
    """Return the page."""
    lines = [INTRO]
    for kind in kinds():
        found = cards(kind)
        lines += [f"\n## {kind}: `{found[0].key}`\n", "| name | what | arguments | source | test |"]
        lines += ["|---|---|---|---|---|"]
        lines += [_row(card) for card in found]
    rows = source_rows()
    left = [row for row in rows if row[2].startswith("left out")]
    lines += [
        f"\n## The {len(rows)} rows of the sources\n",
        f"{len(rows) - len(left)} are in, {len(left)} are left out.\n",
    ]
    lines += ["| component | source | where |", "|---|---|---|"]
    lines += [f"| {' | '.join(_cell(text) for text in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def source_rows() -> list[tuple[str, str, str]]:
    """Return (component, source, where) of each row of docs/sources.txt."""
    texts = [line for line in (HERE / "sources.txt").read_text().splitlines() if line and not line.startswith("#")]
    rows = [tuple(part.strip() for part in text.split(" | ")) for text in texts]
    return [(row[0], row[1], row[2]) for row in rows]


def oracle(card: Card) -> str:
    """Return `file::test` of the first test that calls the part or names it in a recipe; "" where there is none."""
    name = re.escape(card.name)
    for pattern in (rf"\b\w+\.{name}\b", rf"[\"']{name}[\"']"):
        for folder in TESTS:
            for path in sorted((HERE.parent / folder).glob("test_*.py")):
                if test := _test_with(path.read_text(encoding="utf-8"), pattern):
                    return f"{folder.removeprefix('tests/')}/{path.name}::{test}"
    return ""


def _test_with(text: str, pattern: str) -> str:
    for block in re.split(r"\n\n\n", text):
        found = re.search(r"^def (test_\w+)", block, re.M)
        if found and re.search(pattern, block, re.I):
            return found[1]
    return ""


def _row(card: Card) -> str:
    words = "; ".join(argument.words() for argument in card.arguments)
    cells = (f"`{card.name}`", f"{card.what} {card.when}".strip(), words, card.source, oracle(card))
    return f"| {' | '.join(_cell(text) for text in cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    (HERE / "parts.md").write_text(page(), encoding="utf-8")
