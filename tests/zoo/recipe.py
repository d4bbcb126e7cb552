"""A case as a user has it on disk: a folder with its recipe, its Python file and the zoo's parts."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit

from tests.zoo import prepared
from tests.zoo.bases import recipe_of
from tests.zoo.case import HERE, Case
from tuner.core.errors import TunerError
from tuner.core.trial import apply_overrides
from tuner.recipe import registry

COMPONENTS = {"model": "name", "optimizer": "name", "data": "source"}
OURS = {  # keys of a component's table that are not its arguments
    "model": ("name", "init"),
    "optimizer": ("name", "lr", "weight_decay"),
    "data": ("source", "normalize"),
}


def write_folder(case: Case, folder: Path, healthy_twin: bool = False) -> Path:
    """Write the case's folder, or that of its healthy twin, and return the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "parts.py", folder / "parts.py")
    shutil.copy(case.file, folder / case.file.name)
    changes = case.twin if healthy_twin else case.changes
    path = folder / "recipe.toml"
    text = tomlkit.dumps(_without_foreign_arguments(recipe_with(case.base, changes), changes, folder))
    path.write_text(text)
    prepared.write_named(text, folder)
    return path


def recipe_text(case: Case) -> str:
    """Return the recipe of a case as TOML, before it is fitted to the components that it names."""
    return tomlkit.dumps(recipe_with(case.base, case.changes))


def recipe_with(base: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a base's recipe with dotted keys changed; None takes a key out. `search.optimizer.lr` is one key."""
    inside = {key: value for key, value in changes.items() if not key.startswith("search.")}
    recipe = apply_overrides(recipe_of(base), inside)
    for key in changes.keys() - inside.keys():
        recipe["search"] = {**recipe["search"], key.removeprefix("search."): changes[key]}
    return _without_none(recipe)


def _without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in table.items()
        if value is not None
    }


def _without_foreign_arguments(recipe: dict[str, Any], changes: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Drop arguments of the base's component where a case replaces it by one that does not take them."""
    for table, key in COMPONENTS.items():
        if f"{table}.{key}" not in changes:
            continue
        accepted = _parameters(key if key == "source" else table, recipe[table][key], folder)
        given = {name.split(".")[1] for name in changes if name.startswith(f"{table}.")}
        recipe[table] = {
            name: value
            for name, value in recipe[table].items()
            if name in given or name in OURS[table] or name in accepted
        }
    return recipe


def _parameters(kind: str, name: str, folder: Path) -> set[str]:
    try:
        return set(inspect.signature(registry.resolve(kind, name, folder)).parameters)
    except (TunerError, ValueError):
        return set()  # the case is about just that; tuner says what is wrong
