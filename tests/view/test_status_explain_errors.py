from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.view.seen import plain_console, text_of
from tuner.core.errors import InputError, UsageError
from tuner.view.errors import show_error
from tuner.view.explain import explain, rules_table
from tuner.view.status import status_table

CARD = {
    "code": "LR301",
    "cause": "lr-band-at-edge",
    "stage": "lr-sweep",
    "name": "band at edge",
    "meaning": "The best rate is the last that was tried, so a better one may lie beyond it.",
    "detected": "The largest drop belongs to the smallest or largest rate.",
    "why": "Every later step searches around this rate.",
    "fix": "Extend the sweep: --lr-max 10.",
    "confused_with": "A loss that does not depend on the inputs.",
    "source": "lecture, section 6 | step 3",
}
ROWS = [
    {
        "stage": "check-init",
        "state": "fresh",
        "verdict": "pass",
        "headline": "as expected " * 9,
        "when": "12:00",
    },
    {
        "stage": "lr-sweep",
        "state": "stale",
        "verdict": "warn",
        "headline": "falls",
        "reasons": [f"model.width changed: {i} -> 32" for i in range(7)],
    },
    {"stage": "fine", "state": "missing", "verdict": None, "headline": None, "reasons": None},
]


@pytest.mark.parametrize("width", [60, 80])
def test_status_table_shows_states_and_reasons_within_the_width(width):
    console, file = plain_console(width)
    status_table(ROWS, console)
    text = text_of(file)
    assert max(map(len, text.splitlines())) <= width
    for words in (
        "check-init",
        "fresh",
        "pass",
        "stale",
        "model.width changed: 0 -> 32",
        "and 2 more",
        "missing",
        "12:00",
    ):
        assert words in " ".join(text.split())
    assert "None" not in text


@pytest.mark.parametrize("width", [60, 80])
def test_explain_shows_every_part_of_the_card(width):
    console, file = plain_console(width)
    explain(SimpleNamespace(**CARD), console)
    text = text_of(file)
    assert max(map(len, text.splitlines())) <= width
    flat = " ".join(text.split())
    assert all(value in flat for value in CARD.values())
    assert 'codes = ["LR301"]' in flat


def test_explain_leaves_out_empty_parts():
    console, file = plain_console()
    explain(SimpleNamespace(**{**CARD, "confused_with": "", "source": ""}), console)
    assert "confused with" not in text_of(file) and "Source" not in text_of(file)


def test_rules_table_is_sorted_markdown_with_pipes_escaped():
    later = SimpleNamespace(**{**CARD, "code": "LR302", "meaning": "a | b"})
    lines = rules_table([later, SimpleNamespace(**CARD)]).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| LR301", "| LR302"]
    assert "a \\| b" in lines[3]


def test_show_error_keeps_long_paths_whole():
    path = "/a/very/long/path" * 12
    console, file = plain_console(60)
    show_error(UsageError(f"{path}/recipe.toml:3: model.widht: unknown key", "Write `model.width`."), console)
    assert text_of(file) == f"error: {path}/recipe.toml:3: model.widht: unknown key\nhint: Write `model.width`.\n"


def test_show_error_without_a_hint_prints_one_line():
    console, file = plain_console()
    show_error(InputError("gone [red]not markup[/red]"), console)
    assert text_of(file) == "error: gone [red]not markup[/red]\n"


def test_explain_without_a_code_lists_every_check_by_step(command):
    from tuner.checks.engine import all_rules
    from tuner.stages.checklist import NAMES

    out = command("explain").out
    listed = [line.split()[0] for line in out.splitlines() if line.startswith("   ")]
    assert sorted(listed) == sorted(all_rules())
    heads = [line.split(":")[0].strip() for line in out.splitlines() if line.endswith(" checks")]
    assert heads == [name for name in NAMES if name in heads] and len(heads) > 5
