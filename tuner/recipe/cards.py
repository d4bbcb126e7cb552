"""A part's card: what it is, when to take it, its arguments with their ranges, its source; read from its docstring.

The sources are parsed, not imported, so that no torch is loaded. A docstring has a first sentence, and lines that begin
with `When:`, `Source:` and `argument: low to high` (`, log` where it is searched in the logarithm).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.core.errors import UsageError, did_you_mean
from tuner.recipe.registry import KINDS

ROOT = Path(__file__).parent.parent
NUMBER = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
RANGE = re.compile(rf"(\w+): ({NUMBER}) to ({NUMBER})(, log)?")
GIVEN = {  # arguments that tuner passes, of whatever kind
    *("self", "model", "outputs", "inputs", "targets", "generator", "num_classes", "optimizer", "total_steps"),
    *("steps_per_epoch", "params", "lr", "input_shape", "features", "step", "batches", "epoch", "epochs", "table"),
    *("cache_dir", "recipe_dir"),
}
TORCHS = "torch's own"  # the default of an argument of a class of torch, which is not imported
NO_PARTS = ("probe", "step", "evaluate", "metric")


@dataclass(frozen=True)
class Argument:
    """One argument: its default as written in the source ("" where it must be given), and the range to search."""

    name: str
    default: str
    low: float | None = None
    high: float | None = None
    log: bool = False

    def to_json(self) -> dict[str, Any]:
        return vars(self)

    def words(self) -> str:
        ends = f" [{self.low:g} to {self.high:g}{', log' if self.log else ''}]" if self.low is not None else ""
        return f"{self.name} = {self.default}{ends}" if self.default else f"{self.name} (must be given){ends}"


@dataclass(frozen=True)
class Card:
    """What is known of a part. `key`: where a recipe names it. `file`: where it is, from the package's folder."""

    kind: str
    name: str
    key: str
    what: str
    when: str
    arguments: tuple[Argument, ...]
    source: str
    file: str

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "arguments": [argument.to_json() for argument in self.arguments]}


def kinds() -> list[str]:
    """Return the kinds of parts that have built-ins."""
    return [kind for kind, (_, module) in KINDS.items() if module is not None and kind not in NO_PARTS]


def cards(kind: str) -> list[Card]:
    """Return the cards of the built-in parts of a kind, in the order of their names.

    Raises:
        UsageError: "unknown kind".
    """
    if kind not in kinds():
        known = ", ".join(kinds())
        raise UsageError(f"unknown kind {kind!r}{did_you_mean(kind, kinds())} (known: {known})", "tuner parts")
    key, module = KINDS[kind]
    assert module is not None
    found: list[Card] = []
    for path in _files(module):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            found += _cards_of(node, kind, key, str(path.relative_to(ROOT.parent)))
    return sorted(found, key=lambda card: card.name)


def default_range(key: str, recipe: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the range that `[search]` takes for a key that is "auto": the part's, else the table's; or None."""
    table, _, rest = key.partition(".")
    values = recipe.get(table)
    name = values.get("name") if isinstance(values, Mapping) else None
    known: list[Argument] = []
    if table in kinds():
        fallback = {"loss": "cross_entropy", "optimizer": "sgd", "schedule": "constant"}.get(table)
        known = [a for card in cards(table) if card.name == (name or fallback) for a in card.arguments]
    for argument in [*known, *_of_table(table)]:
        if argument.name == rest and argument.low is not None and argument.high is not None:
            whole = all(float(end).is_integer() for end in (argument.low, argument.high)) and _is_whole(argument)
            ends = [int(end) if whole else end for end in (argument.low, argument.high)]
            return {"low": ends[0], "high": ends[1], "log": argument.log, "int": whole}
    return None


def _is_whole(argument: Argument) -> bool:
    return bool(re.fullmatch(r"\d+", argument.default))


def _of_table(table: str) -> list[Argument]:
    """Return the ranges of a table's own keys, which its class in `recipe.model` has in its docstring."""
    tree = ast.parse((ROOT / "recipe" / "model.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name.lower() == table:
            return [_argument(name, _default_in(node, name), ast.get_docstring(node) or "") for name in _names(node)]
    return []


def _names(node: ast.ClassDef) -> list[str]:
    return [found[0] for found in RANGE.findall(ast.get_docstring(node) or "")]


def _default_in(node: ast.ClassDef, name: str) -> str:
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.target.id == name:
            return "1" if "int" in ast.unparse(item.annotation) else "1.0"
    return "1.0"


def _files(module: str) -> Iterator[Path]:
    path = ROOT.parent / module.replace(".", "/")
    if path.is_dir():
        yield path / "__init__.py"
        yield from sorted(item for item in path.glob("*.py") if not item.name.startswith("_"))
    else:
        yield path.with_suffix(".py")


def _cards_of(node: ast.stmt, kind: str, key: str, file: str) -> Iterator[Card]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
        text = ast.get_docstring(node) or ""
        yield _card(kind, key, node.name, text, tuple(_arguments(node, text)), file)
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CARDS":
        for name, text in ast.literal_eval(node.value).items():
            ranges = tuple(_argument(found[0], TORCHS, text) for found in RANGE.findall(text))
            yield _card(kind, key, name, text, ranges, file)


def _card(kind: str, key: str, name: str, text: str, arguments: tuple[Argument, ...], file: str) -> Card:
    what = " ".join(text.split("\n\n")[0].split())
    return Card(kind, name, key, what, _section(text, "When"), arguments, _section(text, "Source"), file)


def _section(text: str, word: str) -> str:
    found = re.search(rf"^\s*{word}: (.*?)(?=\n\s*\n|\n\s*[\w]+: |\Z)", text, re.S | re.M)
    return " ".join(found[1].split()) if found else ""


def _arguments(node: ast.FunctionDef | ast.ClassDef, text: str) -> Iterator[Argument]:
    if isinstance(node, ast.ClassDef):
        inits = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        if not inits:
            return
        node = inits[0]
    taken = [*node.args.posonlyargs, *node.args.args]
    given: list[ast.expr | None] = [None] * (len(taken) - len(node.args.defaults))
    defaults = [*given, *node.args.defaults, *node.args.kw_defaults]
    for item, default in zip([*taken, *node.args.kwonlyargs], defaults, strict=True):
        if item.arg not in GIVEN:
            yield _argument(item.arg, "" if default is None else ast.unparse(default), text)


def _argument(name: str, default: str, text: str) -> Argument:
    for found, low, high, log in RANGE.findall(text):
        if found == name:
            return Argument(name, default, float(low), float(high), bool(log))
    return Argument(name, default)
