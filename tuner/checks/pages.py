"""One page per measurement, `docs/checks/<measurement>.md`: made from evidence, limits and cards by `make docs`."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterable, Sequence
from pathlib import Path

from tuner.checks import __path__ as here
from tuner.checks.cards import Rule
from tuner.checks.engine import all_rules
from tuner.checks.evidence import Evidence, evidence_class
from tuner.checks.limits import Limit
from tuner.checks.rates import MARGINS, RATES
from tuner.core import metrics

PARTS = (
    ("How it is detected", "detected"),
    ("Why it matters", "why"),
    ("What it is confused with", "confused_with"),
    ("What to do", "fix"),
    ("Source", "source"),
)


def check_pages() -> dict[str, str]:
    """Return the pages by measurement, of those that have rules, and `README`, which lists them."""
    rules: dict[str, list[Rule]] = {}
    for rule in all_rules().values():
        rules.setdefault(rule.measurement, []).append(rule)
    pages = {name: _page(name, found) for name, found in sorted(rules.items())}
    rows = [f"| [{name}]({name}.md) | {', '.join(rule.code for rule in rules[name])} |" for name in pages]
    head = "# Checks\n\nA page per measurement, made by `make docs`.\n\n| measurement | codes |\n|---|---|\n"
    return {**pages, "README": head + "\n".join(rows) + "\n"}


def limits_of(rules: Iterable[Rule]) -> list[Limit]:
    """Return the limits in the modules of some rules, by name."""
    modules = [importlib.import_module(name) for name in sorted({rule.check.__module__ for rule in rules})]
    values = [item for module in modules for item in vars(module).values()]
    flat = [part for item in values for part in (item if isinstance(item, tuple) else (item,))]
    return sorted({id(item): item for item in flat if isinstance(item, Limit)}.values(), key=lambda item: item.name)


def _page(name: str, rules: Sequence[Rule]) -> str:
    kind = evidence_class(name)
    parts = [f"# {name.replace('_', ' ')}", _measured(name, kind)]
    if limits := limits_of(rules):
        parts += ["## Limits", "\n".join(_limits_table(limits))]
    return "\n\n".join([*parts, *(_card(rule) for rule in rules)]) + "\n"


def _measured(name: str, kind: type[Evidence]) -> str:
    how = _measure_doc(name)
    told = [inspect.getdoc(each) or "" for each in kind.__mro__ if each is kind or each.__module__ == metrics.__name__]
    return "\n\n".join(["## What is measured", *([how] if how else []), *told])


def _measure_doc(name: str) -> str:
    """Return the docstring of a measure, from its text: importing it would load torch."""
    path = Path(next(iter(here))) / name / "measure.py"
    nodes = ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else []
    found = (node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == name)
    return next((ast.get_docstring(node) or "" for node in found), "")


def _limits_table(limits: Iterable[Limit]) -> list[str]:
    head = ["| limit | value | unit | sound programs | planted bugs | source |", "|---|---|---|---|---|---|"]
    return [
        *head,
        *(f"| {limit.name} | {limit} | {limit.unit} | {_margin(limit)} | {limit.source} |" for limit in limits),
    ]


def _margin(limit: Limit) -> str:
    """Return the nearest values of sound programs, and of planted bugs, below and above a limit on the zoo."""
    return " | ".join(MARGINS.get(f"{limit.name} ({limit.unit})", ("not compared", "not compared")))


def _card(rule: Rule) -> str:
    lines = [f"## {rule.code} {rule.name}", f"Cause: `{rule.cause}`; found by {rule.stage}. {rule.meaning}"]
    lines += [f"**{title}.** {text}" for title, field in PARTS if (text := " ".join(getattr(rule, field).split()))]
    if rule.explained_by:
        lines.append(f"**What explains it.** {', '.join(rule.explained_by)}: it is then listed under that finding.")
    rate = RATES.get(rule.code)
    said = "Fewer than five warns or errors of it are stored"
    if rate is not None:
        said = f"Right in {rate:.0%} of its warns and errors"
    return "\n\n".join([*lines, f"**On the zoo.** {said}."])
