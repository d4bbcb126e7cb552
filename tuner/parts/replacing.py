"""Parts of a model that has been built, replaced by others: its activations, its global pooling, its head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from tuner.core.errors import UsageError, did_you_mean
from tuner.parts.activations import LEFT_OUT, maxout
from tuner.parts.blocks import head_of
from tuner.parts.layers import DualPool, GeMPool, GlobalAveragePool, StripePool
from tuner.recipe.registry import arguments, bind, resolve


@dataclass(frozen=True)
class Activation:
    """An activation of the recipe, built for each layer. `pieces`: how many times wider the layer before it is."""

    name: str
    fn: Any
    args: Mapping[str, Any] = field(default_factory=dict)
    replaces: tuple[str, ...] = ()

    def __call__(self) -> nn.Module:
        return self.fn(**self.args)

    @property
    def pieces(self) -> int:
        return self.args.get("pieces", 2) if self.fn is maxout else 1


def activation_of(value: Any, base_dir: Path = Path()) -> Activation:
    """Read `model.activation`: a name, or a table with a name, arguments and `replaces` (names of classes).

    Raises:
        UsageError: "unknown activation", "takes no such argument", "a table needs a name".
    """
    if isinstance(value, Activation):
        return value
    table = {"name": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping) or not isinstance(table.get("name"), str):
        raise UsageError(f"model.activation: a table needs a name (got {value!r})", 'Write { name = "elu", ... }.')
    name = table["name"]
    fn = resolve("activation", name.lower() if "." not in name else name, base_dir)
    args = arguments(table, ("name", "replaces"))
    bind(fn, {}, args, "model.activation")
    replaces = table.get("replaces", ())
    return Activation(name, fn, args, (replaces,) if isinstance(replaces, str) else tuple(replaces))


def replace_activations(model: nn.Module, activation: Activation) -> nn.Module:
    """Put a new activation in the place of each that is of the classes it `replaces`, else of torch.nn's activations.

    Raises:
        UsageError: "no ... to replace", maxout.
    """
    if activation.pieces > 1:
        text = "model.activation: maxout widens the layer before it, which only the built-in models can do"
        raise UsageError(text, "Take another activation, or mlp, convnet or a built-in residual net.")
    known = tuple(getattr(nn, name) for name in nn.modules.activation.__all__ if name not in LEFT_OUT)
    there = {name: module for name, module in model.named_modules() if isinstance(module, known)}
    if activation.replaces:
        there = {n: m for n, m in model.named_modules() if n and type(m).__name__ in activation.replaces}
    if not there:
        has = sorted({type(module).__name__ for module in model.modules() if not list(module.children())})
        wanted = activation.replaces[0] if activation.replaces else "activation module"
        close = did_you_mean(wanted, has)
        raise UsageError(
            f"model.activation: the model has no {wanted} to replace{close} (it has: {', '.join(has)})",
            "Name the class with replaces = [...]; functions such as F.relu inside forward cannot be replaced.",
        )
    for name in there:
        replace_module(model, name, activation())
    return model


GLOBAL = (GlobalAveragePool, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, DualPool, GeMPool, StripePool)


def set_global_pool(model: nn.Module, pool: nn.Module) -> nn.Module:
    """Put a global pooling in the place of the model's last one; a head that is too narrow for it is built again.

    Raises:
        UsageError: "has no global pooling".
    """
    found = [name for name, module in model.named_modules() if isinstance(module, GLOBAL)]
    if not found:
        text = f"model.global_pool: {type(model).__name__} has no global pooling to replace"
        raise UsageError(text, "It must be a module: nn.AdaptiveAvgPool2d(1), not a mean inside forward.")
    replace_module(model, found[-1], pool)
    if isinstance(pool, (DualPool, StripePool)):
        head = head_of(model)
        if not isinstance(head, nn.Linear):
            raise UsageError("model.global_pool: what widens the features needs a linear head", "Take gem or max.")
        wider = nn.Linear(pool.widens * head.in_features, head.out_features, bias=head.bias is not None)
        replace_module(model, next(name for name, module in model.named_modules() if module is head), wider)
    return model


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` in the place of the model's submodule of that name."""
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)


def set_head(model: nn.Module, build: object) -> nn.Module:
    """Put `build(features, num_classes)` in the place of the model's last linear layer.

    Raises:
        UsageError: "needs a model that ends in a linear layer".
    """
    linear_layers = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear_layers:
        text = f"model.head: needs a model that ends in a linear layer; {type(model).__name__} has none"
        raise UsageError(text, "Leave model.head out.")
    name, old = linear_layers[-1]
    assert callable(build)
    new = build(old.in_features, old.out_features)
    new.is_head = True
    if not name:
        return new
    replace_module(model, name, new)
    return model
