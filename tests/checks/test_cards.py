"""Every card is whole, every limit has a source, and causes lead to their effects without going round."""

import ast
import importlib
from pathlib import Path

import pytest

import tuner.checks
from tuner.checks.cards import Limit
from tuner.checks.causes import CAUSES
from tuner.checks.engine import all_rules, ordered
from tuner.core.result import Finding

RULES = all_rules()
CHECKS = Path(tuner.checks.__path__[0])
PACKAGES = CHECKS.parent.parent
FILES = [path for path in sorted(CHECKS.rglob("*.py")) if "rules" in path.relative_to(CHECKS).as_posix()]


def limits():
    for path in [*FILES, *CHECKS.glob("*.py")]:
        name = ".".join(path.with_suffix("").relative_to(PACKAGES).parts)
        for key, value in vars(importlib.import_module(name.removesuffix(".__init__"))).items():
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Limit):
                    yield f"{name}.{key}", item


def numbers(path):
    """Yield the names of constants that are plain numbers."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            value = node.value.operand if isinstance(node.value, ast.UnaryOp) else node.value
            if isinstance(value, ast.Constant) and isinstance(value.value, (int, float)):
                yield node.targets[0].id


def test_every_limit_has_a_name_a_unit_and_a_source():
    found = dict(limits())
    assert len(found) > 100
    assert not [name for name, limit in found.items() if not (limit.name and limit.unit and len(limit.source) > 10)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_constant_of_a_rule_is_a_bare_number(path):
    assert not list(numbers(path)), "make it a Limit with a source"


def test_what_explains_a_finding_is_a_code_or_a_cause_that_exists():
    for rule in RULES.values():
        assert not [name for name in rule.explained_by if name not in RULES and name not in CAUSES], rule.code


def test_explanations_do_not_go_round():
    def causes_of(code, seen):
        assert code not in seen, f"{' <- '.join((*seen, code))}"
        for name in RULES[code].explained_by:
            for other in RULES.values():
                if name in (other.code, other.cause) and other.code != code and other.stage == RULES[code].stage:
                    causes_of(other.code, (*seen, code))

    for code in RULES:
        causes_of(code, ())


def finding(code, severity, **more):
    return Finding(code, RULES[code].cause, severity, "", **more)


def test_an_effect_follows_its_cause_and_names_it():
    effect, cause = finding("IN102", "warn"), finding("DA109", "warn")
    assert [(item.code, item.explained_by) for item in ordered([effect, cause])] == [
        ("DA109", None),
        ("IN102", "DA109"),
    ]


def test_a_cause_is_as_heavy_as_its_heaviest_effect():
    found = ordered([finding("IN107", "warn"), finding("IN102", "error"), finding("IN115", "warn")])
    assert [item.code for item in found][:2] == ["IN107", "IN102"]


def test_a_cause_that_is_accepted_explains_nothing():
    effect, cause = finding("IN102", "warn"), finding("DA109", "warn", accepted=True)
    assert [item.explained_by for item in ordered([effect, cause])] == [None, None]


def test_errors_come_before_warns_before_notes_and_data_before_the_model():
    found = ordered(
        [finding("IN103", "note"), finding("IN117", "error"), finding("IN128", "warn"), finding("DA119", "warn")]
    )
    assert [item.code for item in found] == ["IN117", "DA119", "IN128", "IN103"]


def test_what_an_earlier_step_has_found_is_named():
    earlier = [{"code": "IN130", "cause": "dead-units", "severity": "warn"}]
    (found,) = ordered([finding("CU605", "note")], [{**earlier[0], "code": "CU640"}])
    assert found.explained_by == "CU640"
