"""docs/parts.md: written from the cards, a test behind each part, and every row of the sources accounted for."""

import importlib.util
from pathlib import Path

import pytest

from tuner.recipe.cards import cards, kinds

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("build_parts", DOCS / "build_parts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_row_of_the_sources_says_where_it_is_or_why_not(build):
    rows = build.source_rows()
    assert len(rows) >= 105 and len({row[0] for row in rows}) == len(rows)
    assert {row[1] for row in rows} == {"lecture", "experience", "training", "short notes"}
    assert all(row[2] for row in rows)


def test_a_row_that_names_a_part_names_one_that_there_is(build):
    known = {card.name for kind in kinds() for card in cards(kind)}
    quoted = [(row, text) for row in build.source_rows() for text in row[2].split('"')[1::2]]
    wrong = [text for _, text in quoted if "." not in text and text.replace("-", "_") not in known | NAMES]
    assert wrong == [] and len(quoted) > 70


NAMES = {
    "finalists",
    "scales",
    "mean_image",
    "channel_mean",
    "standardize",
    "all",
    "head",
    "discriminative",
    "last_blocks",
    "ibn",
}


def test_every_part_has_a_test(build):
    without = [(kind, card.name) for kind in kinds() for card in cards(kind) if not build.oracle(card)]
    assert without == []


def test_the_page_has_every_part_and_every_row():
    text = (DOCS / "parts.md").read_text(encoding="utf-8")
    names = [card.name for kind in kinds() for card in cards(kind)]
    assert [name for name in names if f"| `{name}` |" not in text] == [] and len(names) > 110
    assert "rows of the sources" in text
