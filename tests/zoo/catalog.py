"""The cases of the zoo: loading them, choosing some, and what a record of one depends on."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import pkgutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import tomlkit

import tuner
from tests.zoo.case import CASES, HERE, Case
from tests.zoo.recipe import recipe_text, recipe_with

PARTS = ("dev", "held-out", "all")
FOLDERS = ("bugs", "healthy", "pairs")
KINDS = ("bugs", "healthy", "all")
SHARED = ("parts.py", "arrays.py")  # what a case's file may import
DRAWN = ("view/", "cli.py", "reporter.py", "exits.py", "pipes.py")  # of tuner: decides nothing


def load_cases() -> dict[str, Case]:
    """Import every family of bugs and look-alikes, and return the cases by name."""
    for folder in FOLDERS:
        for module in pkgutil.iter_modules([str(HERE / folder)]):
            importlib.import_module(f"tests.zoo.{folder}.{module.name}")
    return dict(sorted(CASES.items()))


def chosen(part: str, kind: str = "all", names: Sequence[str] = ()) -> list[Case]:
    """Return the cases of a part and kind; with names, those whose name or family is named, or begins like a `name*`.

    Raises:
        ValueError: a name chooses nothing.
    """
    cases = [
        case
        for case in load_cases().values()
        if part == "all" or case.held_out == (part == "held-out")
        if kind == "all" or case.healthy == (kind == "healthy")
    ]
    if missing := [name for name in names if not any(_matches(case, name) for case in cases)]:
        raise ValueError(f"no case here is named {', '.join(missing)}")
    return [case for case in cases if not names or any(_matches(case, name) for name in names)]


def _matches(case: Case, name: str) -> bool:
    return name in (case.name, case.family) or (name.endswith("*") and case.name.startswith(name[:-1]))


def definition(case: Case) -> str:
    """Return a hash of what the case is: its recipe, its own code and what its file shares, and the zoo's parts."""
    text = recipe_text(case)
    return _digest([text, _own_code(case, text), *_shared(text)])


def training(case: Case, twin: bool = False) -> str:
    """Return a hash of what training the case, or its healthy twin, depends on; equal twins are measured once."""
    recipe = recipe_with(case.base, case.twin if twin else case.changes)
    recipe["stages"] = {"fine": recipe["stages"].get("fine", {})}
    recipe.pop("accept", None)
    text = tomlkit.dumps({**recipe, "name": "any"})
    own = _own_code(case, text) if f'"{case.file.name}:' in text else ""
    return _digest([text, own, *_shared(text)])


def _shared(recipe: str) -> list[str]:
    """Return the text of what a case shares with others: of what is prepared for it where its recipe names that."""
    names = (*SHARED, "prepared.py") if '"prepared/' in recipe else SHARED
    return [(HERE / name).read_text() for name in names]


def record_key(case: Case, seed: int, last: str) -> str:
    """Return a hash of all that a record of the case depends on: the case, the seed, the last step, tuner's sources."""
    return _digest([definition(case), str(seed), last, _sources()])[:16]


@functools.cache
def _sources() -> str:
    folder = Path(tuner.__file__).parent
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
    return _digest((folder / path).read_text() for path in paths if not path.startswith(DRAWN))


def _own_code(case: Case, named: str) -> str:
    """Return the case's file without the cases that a recipe does not name: one more leaves its records valid."""
    nodes = _parsed(case.file.read_text()).body
    return "\n".join(ast.unparse(node) for node in nodes if not _is_other_case(node, case.file.name, named))


@functools.cache
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


def _is_other_case(node: ast.stmt, file: str, recipe: str) -> bool:
    if isinstance(node, ast.FunctionDef):
        decorated = any(_registers(item) for item in node.decorator_list)
        return decorated and f'"{file}:{node.name}"' not in recipe
    return isinstance(node, ast.Expr) and (_registers(node.value) or isinstance(node.value, ast.Constant))


def _registers(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("bug", "healthy")


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
