"""Every card is whole, every limit has a source, and causes lead to their effects without going round."""

import ast
import importlib
import re
from pathlib import Path

import pytest

import tuner.checks
from tuner.checks.cards import Limit
from tuner.checks.causes import CAUSES
from tuner.checks.engine import all_rules, ordered
from tuner.checks.rates import MARGINS
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


def test_a_limit_that_comes_from_the_zoo_has_its_margin_measured_there_and_not_typed():
    ours = {name: limit for name, limit in limits() if limit.source.startswith("zoo")}
    assert len(ours) > 30
    typed = [name for name, limit in ours.items() if re.search(r"\d", limit.source)]
    assert not typed
    unmeasured = [name for name, limit in ours.items() if not re.search(r"\d", "".join(margin_of(limit)))]
    assert not unmeasured


def margin_of(limit):
    return MARGINS.get(f"{limit.name} ({limit.unit})", ())


def test_no_two_limits_share_a_name_and_a_unit():
    named = {}
    for name, limit in limits():
        named.setdefault((limit.name, limit.unit), {})[id(limit)] = name
    assert not {key: list(names.values()) for key, names in named.items() if len(names) > 1}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_constant_of_a_rule_is_a_bare_number(path):
    assert not list(numbers(path)), "make it a Limit with a source"


PROSE = ("meaning", "detected", "why", "confused_with")
NO_LIMITS = (  # digits that are no limit of ours
    r"\b[A-Z]{2}\d{3}\b",  # a code
    r"\b95 %",  # the level of every interval
    r"\bfp32\b|\bfp16\b|\bbf16\b|\b16[- ]bits?\b|\b16-bit\b|\bfloat\d+\b",  # a precision
    r"\b[Ss]teps? \d( and \d| to \d)?\b",  # of the checklist
    r"(?<![\d.])-?[01](?!\.?\d| ?%)",  # exactly 0, 1 or -1
    r"\blog 2\b|\b1/C\b|\bsqrt 6\b|\b2a\b|\b2 f\(a\)|1 / \(1 - m",  # of a formula
)
EXPLAINED = {  # the others: (code, field) -> why the number is no limit
    ("OV210", "detected"): "the optimizer that takes the other's place",
    ("OV208", "detected"): "all of them",
    ("CU614", "detected"): "what the run changes",
    ("DA127", "why"): "a digit that is drawn",
    ("CO404", "detected"): "what the search counts as its border, search.edges",
    ("FI503", "detected"): "what the search counts as its border, search.edges",
    ("FI501", "detected"): "the usual level of a test",
    ("DA125", "detected"): "the channels that colours have",
    ("IN131", "detected"): "the ends that the measure counts, SATURATED in layers/measure.py",
    ("IN135", "detected"): "how many pairs the measure asks",
    ("IN120", "detected"): "the planned answers of the measure",
    ("DA111", "detected"): "how many images the measure asks",
    ("IN140", "detected"): "what the measure counts as gone",
    ("DA123", "detected"): "how many the measure asks, and what it counts as rare",
    ("IN136", "detected"): "the trials of the measure, rescaled_start/measure.py",
    ("DA114", "detected"): "the bins of the measure",
    ("DA110", "detected"): "how many examples the measure asks",
    ("IN110", "detected"): "gradients that add up",
    ("IN109", "confused_with"): "what another value gives, by arithmetic",
    ("LR302", "confused_with"): "the setting of lr-sweep",
    ("LR308", "why"): "of the format",
    ("LR309", "confused_with"): "published settings",
    ("LR312", "confused_with"): "a published setting",
    ("IN116", "confused_with"): "what kernels differ by",
    ("IN141", "confused_with"): "Smith 2018",
    ("IN140", "confused_with"): "what the measure counts as gone",
}


def prose():
    """Yield (code, field, the text of the card without what is formatted into it)."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "rule" and node.args:
                for item in node.keywords:
                    if item.arg in PROSE:
                        parts = item.value.values if isinstance(item.value, ast.JoinedStr) else [item.value]
                        text = " ".join(part.value for part in parts if isinstance(part, ast.Constant))
                        yield node.args[0].value, item.arg, text


def test_numbers_in_a_card_are_formatted_from_limits_or_explained():
    texts = list(prose())
    assert len({code for code, _, _ in texts}) > 150
    bare = {}
    for code, field, text in texts:
        for pattern in NO_LIMITS:
            text = re.sub(pattern, "", text)
        if digits := re.findall(r"\S*\d\S*", text):
            bare[code, field] = digits
    assert not {place: digits for place, digits in bare.items() if place not in EXPLAINED}
    assert not sorted(set(EXPLAINED) - set(bare)), "these explain nothing"


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
