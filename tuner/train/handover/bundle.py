"""Collect the source of built-in parts and of all that they use, so that a script can stand without tuner."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from tuner.core import errors
from tuner.core.errors import UsageError

OURS = "tuner."
ERRORS = errors.__name__
MACHINERY = "tuner.recipe."  # how recipes are read: it needs all of tuner
SUPPRESSED = ("noqa", "type: ignore")


@dataclass
class Bundle:
    """Source to paste into a script: import lines, then definitions, each after what it uses.

    Where two modules define the same name, the later one's gets the module's name in front.
    """

    reserved: frozenset[str] = frozenset()  # names that the script has itself
    imports: dict[str, None] = field(default_factory=dict)
    definitions: dict[str, str] = field(default_factory=dict)  # name in the script -> source
    _names: dict[tuple[str, str], str] = field(default_factory=dict)  # (module, name there) -> name in the script

    def add(self, fn: Callable[..., Any]) -> str:
        """Add a function or class of one of tuner's modules, and what it uses; return its name in the script."""
        return self._add(sys.modules[fn.__module__], fn.__name__)

    @property
    def text(self) -> str:
        """The definitions, two empty lines apart."""
        return "\n\n\n".join(self.definitions.values())

    def _add(self, module: ModuleType, name: str) -> str:
        key = (module.__name__, name)
        if key in self._names:
            return self._names[key]
        taken = {*self.reserved, *self._names.values()}
        self._names[key] = given = name if name not in taken else f"{module.__name__.rpartition('.')[2]}_{name}"
        if module.__name__.startswith(MACHINERY):
            raise UsageError(
                f"--script: scripts do not have {module.__name__}.{name} yet, which a part of the recipe looks up",
                "Use --weights or --onnx.",
            )
        if module.__name__ == ERRORS:
            self.definitions[given] = _error(name)
            return given
        top = _top_level(module)
        if name not in top.definitions:
            raise UsageError(f"--script: {module.__name__}.{name} has no source of its own", "Use --weights or --onnx.")
        node = top.definitions[name]
        renamed = {name: given}
        for used in dict.fromkeys(_names(node)):
            if used in top.definitions:
                renamed[used] = self._add(module, used)
            elif used in top.imports and (of := _module_of(*top.imports[used][1:])) is not None:
                renamed |= {f"{used}.{part}": self._add(of, part) for part in _parts_of(node, used)}
            elif used in top.imports:
                renamed[used] = self._import(*top.imports[used], used)
        self.definitions[given] = _source(node, top.lines, renamed)
        return given

    def _import(self, line: str, source: str, name: str, used: str) -> str:
        """Take over an import; what comes from tuner is added itself. Returns its name in the script."""
        if source.startswith(OURS):
            given = self._add(importlib.import_module(source), name)
            if used == name:
                return given
            self._names[(source, f"as {used}")] = used  # an alias stays: its user may have a local of the first name
            self.definitions[used] = f"{used} = {given}"
            return used
        self.imports[line] = None
        return used


def _module_of(source: str, name: str) -> ModuleType | None:
    """Return the module of ours that an import binds a name to; None where it binds something else."""
    if not source.startswith(OURS):
        return None
    value = getattr(importlib.import_module(source), name, None) if name else importlib.import_module(source)
    return value if isinstance(value, ModuleType) else None


def _parts_of(node: ast.AST, module: str) -> Iterable[str]:
    """Return what a definition takes of a module that it knows by this name."""
    found = (item for item in ast.walk(node) if isinstance(item, ast.Attribute) and isinstance(item.value, ast.Name))
    return dict.fromkeys(item.attr for item in found if item.value.id == module)  # type: ignore[attr-defined]


def _error(name: str) -> str:
    """Return a small stand-in for one of tuner's errors, or for its guess at a misspelt name."""
    if name == "did_you_mean":
        return 'def did_you_mean(*_):\n    return ""'
    return f"class {name}(ValueError):\n    pass"


@dataclass(frozen=True)
class _Top:
    """What a module defines and imports at its top level. `imports`: name -> (line, module, name there)."""

    definitions: dict[str, ast.stmt]
    imports: dict[str, tuple[str, str, str]]
    lines: list[str]


def _top_level(module: ModuleType) -> _Top:
    path = module.__file__
    assert path is not None
    with open(path, encoding="utf-8") as file:
        text = file.read()
    definitions: dict[str, ast.stmt] = {}
    imports: dict[str, tuple[str, str, str]] = {}
    for node in ast.parse(text).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            definitions[node.name] = node
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [item.id for target in targets for item in ast.walk(target) if isinstance(item, ast.Name)]
            definitions.update(dict.fromkeys(names, node))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                line = f"import {alias.name}" + (f" as {alias.asname}" if alias.asname else "")
                imports[alias.asname or alias.name.split(".")[0]] = (line, alias.name, "")
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            for alias in node.names:
                line = f"from {node.module} import {alias.name}" + (f" as {alias.asname}" if alias.asname else "")
                imports[alias.asname or alias.name] = (line, str(node.module), alias.name)
    return _Top(definitions, imports, text.splitlines())


def _names(node: ast.AST) -> Iterable[str]:
    """Yield every name that a definition reads and does not bind itself, in the order of its source.

    What a class body binds is not seen in its methods: each of its statements is looked at by itself.
    """
    if isinstance(node, ast.ClassDef):
        for part in (*node.decorator_list, *node.bases, *node.body):
            yield from _names(part)
        return
    bound = {item.arg for item in ast.walk(node) if isinstance(item, ast.arg)}
    bound |= {item.id for item in ast.walk(node) if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)}
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        bound = set()
    for item in ast.walk(node):
        if isinstance(item, ast.Name) and item.id not in bound:
            yield item.id


def _source(node: ast.stmt, lines: list[str], renamed: Mapping[str, str]) -> str:
    """Return a definition's source under its names in the script, without notes to linters."""
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(item.lineno for item in decorators)]) - 1
    kept = lines[first : node.end_lineno]
    found = [(item, _dotted(item)) for item in ast.walk(node) if isinstance(item, (ast.Name, ast.Attribute))]
    changes = [
        (item.lineno, item.col_offset, name)
        for item, name in found
        if name is not None and renamed.get(name, name) != name
    ]
    for number, column, name in sorted(set(changes), reverse=True):
        line = kept[number - 1 - first].encode()
        kept[number - 1 - first] = (
            line[:column] + renamed[name].encode() + line[column + len(name.encode()) :]
        ).decode()
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and renamed[node.name] != node.name:
        at = node.lineno - 1 - first
        kept[at] = re.sub(rf"\b{node.name}\b", renamed[node.name], kept[at], count=1)
    return "\n".join(_without_note(line) for line in kept)


def _dotted(node: ast.Name | ast.Attribute) -> str | None:
    """Return a name, or a name and what is taken of it; None for what is taken of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{node.value.id}.{node.attr}" if isinstance(node.value, ast.Name) else None


def _without_note(line: str) -> str:
    code, mark, comment = line.partition("  # ")
    return code.rstrip() if mark and comment.startswith(SUPPRESSED) else line
