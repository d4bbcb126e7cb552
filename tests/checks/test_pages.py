"""docs/checks/ is what the measurements, limits and cards say."""

from pathlib import Path

import pytest

from tuner.checks.engine import all_rules
from tuner.checks.pages import check_pages

FOLDER = Path(__file__).parents[2] / "docs" / "checks"
PAGES = check_pages()


def test_there_is_a_page_for_each_measurement_with_rules_and_no_other():
    assert {path.stem for path in FOLDER.glob("*.md")} == set(PAGES)
    assert len(PAGES) > 40


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_up_to_date(name):
    assert (FOLDER / f"{name}.md").read_text() == PAGES[name], "run `make docs`"


def test_every_code_has_its_card_on_one_page():
    whole = "\n".join(PAGES.values())
    for code in all_rules():
        assert whole.count(f"\n## {code} ") == 1, code
