"""How a training script writes the recipe's components and values as Python."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tuner.core.errors import UsageError
from tuner.parts.replacing import Activation
from tuner.train.handover import template
from tuner.train.handover.bundle import Bundle
from tuner.train.setup import Setup

INSTEAD = "Use --weights or --onnx, or train the recipe without it."
TEXTS = [value for value in vars(template).values() if isinstance(value, str)]
# what the script itself defines; `Tensor` is torch's there, whatever else a module of ours calls so
RESERVED = frozenset({"Tensor", "loss", "SCORER", *re.findall(r"^(?:def|class) (\w+)", "\n".join(TEXTS), re.M)})


class Expression(str):
    """Python that is written as it is, not as a text."""


@dataclass
class Names:
    """How the script calls the recipe's components, and what it needs for that."""

    setup: Setup
    bundle: Bundle = field(default_factory=lambda: Bundle(reserved=RESERVED))
    imports: dict[str, None] = field(default_factory=dict)

    def of(self, fn: Callable[..., Any], name: str) -> str:
        """Return the expression that names a component of the recipe."""
        if ":" in name:
            module = name.rpartition(":")[0].removesuffix(".py").replace("/", ".")
            self.imports[f"import {module}"] = None
            return f"{module}.{name.rpartition(':')[2]}"
        if fn.__module__.startswith("tuner."):
            return self.bundle.add(fn)
        if fn.__module__.startswith("torch.optim") and "." not in name:
            return f"torch.optim.{fn.__name__}"
        if fn.__module__.startswith("torch.nn.modules") and "." not in name:
            return f"nn.{fn.__name__}"
        if "." not in name:
            raise UsageError(f"--script: {name!r} of {fn.__module__} has no import path to write", INSTEAD)
        module = name
        while "." in module and module not in sys.modules:
            module = module.rpartition(".")[0]
        self.imports[f"import {module}"] = None
        return name

    def activation(self, value: Activation) -> Expression:
        """Return the expression that makes an activation of the recipe."""
        made = self.bundle.add(Activation)
        function = self.of(value.fn, value.name)
        return Expression(f"{made}({value.name!r}, {function}, {literal(dict(value.args))}, {value.replaces!r})")


def literal(value: Any) -> str:
    """Return a value of the recipe as Python."""
    if isinstance(value, Expression):
        return value
    if isinstance(value, torch.Tensor):
        return f"torch.tensor({value.tolist()!r})"
    if isinstance(value, (list, tuple)):
        inside = ", ".join(literal(item) for item in value)
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' if len(value) == 1 else ''})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (bool, int, float, str, type(None))):
        return repr(value)
    raise UsageError(f"--script: {value!r} cannot be written into a script", INSTEAD)


def call_text(function: str, kwargs: Mapping[str, Any], positional: Sequence[str] = ()) -> str:
    """Return a call; a value that is an `Expression` stands as it is."""
    given = [f"{key}={literal(value)}" for key, value in kwargs.items()]
    return f"{function}({', '.join([*positional, *given])})"


def lambda_text(function: str, takes: Sequence[str], asks: Sequence[str], args: Mapping[str, Any]) -> str:
    """Return a lambda of `takes` that calls a function by name with those that it asks for, and with `args`."""
    given = {name: Expression(name) for name in asks if name not in args}
    return f"lambda {', '.join(takes)}: {call_text(function, {**given, **args})}"


def import_text(lines: Sequence[str]) -> str:
    """Return import lines in order, those of one module joined, Python's own first."""
    plain = {line for line in lines if line.startswith("import ")}
    chosen: dict[str, set[str]] = {}
    for line in set(lines) - plain:
        module, _, name = line.removeprefix("from ").partition(" import ")
        chosen.setdefault(module, set()).add(name)
    whole = [
        *sorted(plain),
        *(f"from {module} import {', '.join(sorted(found))}" for module, found in sorted(chosen.items())),
    ]
    own = [line for line in whole if line.split()[1].split(".")[0] in sys.stdlib_module_names]
    return "\n".join([*own, "", *(line for line in whole if line not in own)])


def hook_text(hook: Any, name: str, names: Names, text: str) -> str:
    """Return a hook of the user's in the place that the script has for it."""
    return text.format(function=names.of(hook.fn, name), asks=list(hook.asks))
