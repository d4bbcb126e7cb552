"""The optimizer's parameter groups, as the recipe's `optimizer.groups` combine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from tuner.core.errors import UserCodeError
from tuner.train.points import as_list, part_of


def param_groups(model: nn.Module, table: Mapping[str, Any], base_dir: Path, more: Sequence[Any] = ()) -> list[Any]:
    """Return the model's parameters, in groups where `optimizer.groups` (or `more`) give some their own settings.

    Factors of the rate multiply; of other settings the last one counts. Every parameter is in exactly one group, and
    the groups stand in the order in which the model first has one of their parameters.

    Raises:
        UserCodeError: a function of the user's returned something else than groups of the model's parameters.
    """
    items = [*as_list(table.get("groups")), *more]
    if not items:
        return list(model.parameters())
    parts = [part_of("param_groups", item, base_dir, "optimizer.groups").build()["param_groups"] for item in items]
    return combined(model, table, parts)


def combined(model: nn.Module, table: Mapping[str, Any], parts: Sequence[Callable[..., Any]]) -> list[Any]:
    """Return the model's parameters in the groups that all `parts` together give."""
    options: dict[nn.Parameter, dict[str, Any]] = {item: {} for item in model.parameters()}
    for part in parts:
        for group in _checked(part(model=model, table=table), options):
            own = {key: value for key, value in group.items() if key != "params"}
            for parameter in group["params"]:
                before = options[parameter]
                if "lr" in own and "lr" in before:
                    options[parameter] = {**before, **own, "lr": before["lr"] * own["lr"] / table["lr"]}
                else:
                    options[parameter] = {**before, **own}
    return _gathered(options)


def _gathered(options: Mapping[nn.Parameter, Mapping[str, Any]]) -> list[Any]:
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for parameter, own in options.items():
        key = tuple(sorted((name, repr(value)) for name, value in own.items()))
        groups.setdefault(key, {"params": [], **own})["params"].append(parameter)
    return list(groups.values())


def _checked(value: Any, known: Mapping[nn.Parameter, Any]) -> list[Any]:
    hint = 'Return [{"params": [...], "lr": ..., "weight_decay": ...}].'
    if not isinstance(value, list) or not all(isinstance(group, Mapping) and "params" in group for group in value):
        raise UserCodeError(f"optimizer.groups: must return a list of groups, returned {type(value).__name__}", hint)
    groups = [{**group, "params": list(group["params"])} for group in value]
    if any(parameter not in known for group in groups for parameter in group["params"]):
        raise UserCodeError("optimizer.groups: a group holds a tensor that is no parameter of the model", hint)
    return groups
