"""What the recipe changes about a model that has been built: activations, pooling, head, first weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tuner.core.errors import UsageError
from tuner.parts.replacing import activation_of, replace_activations, set_global_pool, set_head
from tuner.recipe.registry import arguments, asked, bind, call, resolve

REGULARISERS = ("drop_connect", "stochastic_depth", "drop_block")
CHANGES = (
    "activation",
    "global_pool",
    "head",
    *REGULARISERS,
)  # where the builder does not take them itself


def split_table(
    fn: Callable[..., Any], table: Mapping[str, Any], base_dir: Path = Path()
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the table for the model's builder, and what is to be changed in the model afterwards.

    Raises:
        UsageError: "unknown activation" and the like.
    """
    changes = {key: table[key] for key in CHANGES if key in table and not asked(fn, (key,))}
    rest = {key: value for key, value in table.items() if key not in changes}
    spec = rest.get("activation")
    plain = spec is None or (isinstance(spec, str) and spec != "maxout" and "." not in spec)
    if not plain and (fn.__module__ or "").startswith("tuner."):  # a built-in model knows torch's by name alone
        rest["activation"] = activation_of(spec, base_dir)
    return rest, changes


def change(model: nn.Module, changes: Mapping[str, Any], base_dir: Path) -> nn.Module:
    """Make the changes of the recipe to a model, in place where it can be.

    Raises:
        UsageError: the model has nothing that could be changed so; arguments do not fit.
    """
    if "activation" in changes:
        replace_activations(model, activation_of(changes["activation"], base_dir))
    if "global_pool" in changes:
        fn, args = named("pool", changes["global_pool"], base_dir)
        set_global_pool(model, call(fn, bind(fn, {}, args, "model.global_pool"), "model.global_pool", base_dir))
    if "head" in changes:
        fn, args = named("head", changes["head"], base_dir)
        wanted = bind(fn, dict.fromkeys(("features", "num_classes")), args, "model.head")

        def build(features: int, num_classes: int) -> nn.Module:
            known = {"features": features, "num_classes": num_classes}
            return call(fn, {key: args.get(key, known.get(key)) for key in wanted}, "model.head", base_dir)

        model = set_head(model, build)
    for name in REGULARISERS:
        if changes.get(name):
            fn = resolve("regulariser", name, base_dir)
            value = changes[name]
            args = dict(value) if isinstance(value, Mapping) else {"p": value}
            model = call(fn, bind(fn, {"model": model}, args, f"model.{name}"), "model", base_dir)
    return model


def check_changes(changes: Mapping[str, Any], base_dir: Path) -> None:
    """Resolve the names of the changes and check their arguments, without a model.

    Raises:
        UsageError: the first that is wrong.
    """
    if "activation" in changes:
        activation_of(changes["activation"], base_dir)
    for key, kind, offered in (("global_pool", "pool", ()), ("head", "head", ("features", "num_classes"))):
        if key in changes:
            fn, args = named(kind, changes[key], base_dir)
            bind(fn, dict.fromkeys(offered), args, f"model.{key}")


def first_weights(
    model: nn.Module, item: Any, base_dir: Path, inputs: Callable[[], Tensor], targets: Callable[[], Tensor]
) -> None:
    """Initialise the model's weights as `model.init` says."""
    fn, args = named("init", item, base_dir)
    made = {"inputs": inputs, "targets": targets}
    offered = {key: made[key]() for key in asked(fn, tuple(made))}
    call(fn, bind(fn, offered, args, "model.init", positional=1), "model.init", base_dir, model)


def named(kind: str, item: Any, base_dir: Path) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the component that a key of the model table names, and its arguments.

    Raises:
        UsageError: "a table needs a name", "unknown ...".
    """
    table = {"name": item} if isinstance(item, str) else item
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
        raise UsageError(f"model: a table needs a name (got {item!r})", 'Write { name = "...", ... }.')
    return resolve(kind, table["name"], base_dir), arguments(table)
