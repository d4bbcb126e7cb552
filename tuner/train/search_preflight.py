"""Trying out what a search may ask for, before anything runs: both ends of every range, and every choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tuner.core.errors import UsageError
from tuner.core.trial import TrialEnv, apply_overrides
from tuner.recipe.space import Choices, Range, Space, extremes, space_of
from tuner.train.setup import Setup, resolve_all

BUILT = ("model", "loss", "optimizer", "schedule")  # tables whose values can only be told wrong by building

Signatures = Callable[[Mapping[str, Any], TrialEnv, list[str]], list[list[str]]]


def searched_problems(setup: Setup, search: Mapping[str, Any], signatures: Signatures) -> list[list[str]]:
    """Return [`search.<key>`, what is wrong] for values that no trial could be run with."""

    def wrong(key: str, tables: Mapping[str, Any]) -> list[str]:
        return [": ".join(item) for item in signatures(tables, setup.env, [])] or _built(setup, tables, key)

    return _tried(setup.tables, search, wrong)


def searched_names(
    tables: Mapping[str, Any], env: TrialEnv, search: Mapping[str, Any], signatures: Signatures, known: list[list[str]]
) -> list[list[str]]:
    """Return the problems of a search beside those that are `known` of the recipe itself, without building anything."""

    def wrong(key: str, tables: Mapping[str, Any]) -> list[str]:
        return [": ".join(item) for item in signatures(tables, env, []) if item not in known or item[0] == key]

    return _tried(tables, search, wrong)


def _tried(
    base: Mapping[str, Any], search: Mapping[str, Any], wrong: Callable[[str, Mapping[str, Any]], list[str]]
) -> list[list[str]]:
    if not search:
        return []
    space = space_of(search)
    found: dict[tuple[str, str], list[Any]] = {}
    for key, value in extremes(space):
        params = point_of(space, key, value, base)
        if key not in params:
            continue
        for text in wrong(key, apply_overrides(base, params)):
            found.setdefault((f"search.{key}", text.removeprefix(f"{key}: ")), []).append(value)
    return [
        [key, text if len(values) > 1 else f"with {values[0]!r}: {text}"]
        for (key, text), values in found.items()
        if tuple(f"search.{text}".split(": ", 1)) not in found  # else it is said at the searched key that it is of
    ]


def point_of(space: Space, key: str, value: Any, tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return a point of the space where `key` has the value, and its conditions are met as far as they can be."""
    point: dict[str, Any] = {}
    for dimension in space.dimensions:
        if isinstance(dimension.domain, Choices):
            point[dimension.key] = dimension.domain.options[0]
        elif isinstance(dimension.domain, Range):
            point[dimension.key] = dimension.domain.low
    for other, wanted in space[key].when.items():
        if other in point:
            point[other] = wanted[0] if isinstance(wanted, list) else wanted
    point[key] = value
    base = {condition: _value(tables, condition) for condition in space.conditions()}
    return space.active(point, base)


def _value(tables: Mapping[str, Any], dotted: str) -> Any:
    node: Any = tables
    for part in dotted.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _built(setup: Setup, tables: Mapping[str, Any], key: str) -> list[str]:
    """Return what stops the component of the key's table from being built."""
    table = key.partition(".")[0]
    try:
        if key == "train.batch_size" and tables["train"]["batch_size"] > setup.data.size("train"):
            return [f"larger than the train split, which has {setup.data.size('train')} examples"]
        if table not in BUILT:
            return []
        functions, hooks = resolve_all(tables, setup.env.recipe_dir)
        there = replace(setup, spec=replace(setup.spec, tables=tables), functions=functions, **hooks)
        if table == "loss":
            there.loss()
            return []
        model = there.model()
        if table != "model":
            there.schedule(there.optimizer(model), 10, 1)
    except UsageError as error:
        return error.message.splitlines()
    return []
