"""docs/codes.md is what the rules say."""

import re
from pathlib import Path

from tuner.checks.engine import all_rules
from tuner.stages.checklist import NAMES
from tuner.view.explain import codes_page

PAGE = Path(__file__).parents[2] / "docs" / "codes.md"


def test_page_of_codes_is_up_to_date():
    assert PAGE.read_text() == codes_page(all_rules().values(), NAMES), "run `make docs`"


def test_page_of_codes_has_every_rule_once_under_its_step():
    rules = all_rules()
    text = codes_page(rules.values(), NAMES)
    assert sorted(re.findall(r"^\| ([A-Z]{2}\d+) \|", text, re.MULTILINE)) == sorted(rules)
    assert re.findall(r"^## (\S+)", text, re.MULTILINE)[:2] == ["check-init", "overfit"]


def test_every_card_is_complete():
    for rule in all_rules().values():
        assert all((rule.meaning, rule.detected, rule.why, rule.fix)), rule.code
        assert rule.cause == "not-measured" or rule.source, rule.code
