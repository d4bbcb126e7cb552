"""Name -> object: a built-in short name, a dotted import path, or `file.py:name` relative to the recipe.

A built-in is a public function or class of the module of its kind (KINDS); adding one is adding a function.
Loads no torch by itself: only the module of the kind that is asked for.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.core.errors import TunerError, UsageError, did_you_mean, first_line, text_of, user_code, where_in_user_code
from tuner.core.formatting import clipped, shown
from tuner.core.signals import ends_the_command
from tuner.recipe.model import Recipe
from tuner.recipe.user_modules import forget_user_modules, lies_beside, load_user_module, user_module_files

__all__ = [
    "KINDS",
    "Hook",
    "arguments",
    "asked",
    "bind",
    "built_ins",
    "call",
    "forget_user_modules",
    "hook",
    "load_user_module",
    "resolve",
    "user_module_files",
]

MAX_PARTS = 20  # of a dotted path

KINDS: Mapping[str, tuple[str, str | None]] = {  # kind -> (key of the recipe, module of the built-ins)
    "source": ("data.source", "tuner.parts.datasets"),
    "collate": ("data.collate", None),
    "range": ("data.ranges", "tuner.parts.ranges"),
    "sampler": ("data.sampler", "tuner.parts.samplers"),
    "augment": ("data.augment", "tuner.parts.augment"),
    "model": ("model.name", "tuner.parts.models"),
    "init": ("model.init", "tuner.parts.init"),
    "activation": ("model.activation", "tuner.parts.activations"),
    "pool": ("model.global_pool", "tuner.parts.pooling"),
    "head": ("model.head", "tuner.parts.head"),
    "regulariser": ("model", "tuner.parts.regularisers"),
    "loss": ("loss.name", "tuner.parts.losses"),
    "optimizer": ("optimizer.name", "tuner.parts.optimizers"),
    "schedule": ("schedule.name", "tuner.parts.schedules"),
    "penalty": ("train.penalty", "tuner.parts.penalties"),
    "after_update": ("train.after_update", "tuner.parts.after_update"),
    "weights_for_evaluation": ("train.weights_for_evaluation", "tuner.parts.averages"),
    "param_groups": ("optimizer.groups", "tuner.parts.groups"),
    "step": ("train.step", None),
    "evaluate": ("train.evaluate", None),
    "metric": ("train.metric", None),
    "probe": ("measure", "tuner.checks"),
}


def resolve(kind: str, name: str, base_dir: Path) -> Callable[..., Any]:
    """Return the function or class that `name` names; `kind` is a key of KINDS.

    Raises:
        UsageError: "unknown ...", "no such file", "has no ...", "cannot be imported", "is not callable".
        UserCodeError: the user's file raised while it was imported.
    """
    key, module_name = KINDS[kind]
    if not isinstance(name, str):
        raise UsageError(
            f"{key}: expected a name, text in quotes (got {shown(name)})", 'Such as "resnet20", or "file.py:f".'
        )
    file, colon, attribute = name.rpartition(":")
    if name.endswith(".py"):
        found = _from_file(key, name, "", base_dir)
    elif colon and file.endswith(".py"):
        found = _from_file(key, file, attribute, base_dir)
    elif "." in name:
        found = _from_path(key, name, base_dir)
    else:
        found = _built_in(kind, key, module_name, name)
    if not callable(found):
        raise UsageError(
            f"{key}: {shown(name)} is not callable, it is of type {type(found).__name__}", "Name a function or a class."
        )
    if kind == "model" and not isinstance(found, type) and hasattr(found, "named_parameters"):
        raise UsageError(
            f"{key}: {shown(name)} is a model that is built already: trials would go on with each other's weights",
            "Name what builds it: def build(input_shape, num_classes): return ...",
        )
    return found


def built_ins(kind: str) -> dict[str, Callable[..., Any]]:
    """Return the built-in objects of a kind by name.

    They are the public functions and classes that the kind's module defines itself (every module of a package), and
    what its function `_more()` adds, where it has one.
    """
    module_name = KINDS[kind][1]
    if module_name is None:
        return {}
    module = importlib.import_module(module_name)
    modules = [module]
    if hasattr(module, "__path__"):
        names = sorted(info.name for info in pkgutil.iter_modules(module.__path__) if not info.name.startswith("_"))
        modules += [importlib.import_module(f"{module_name}.{name}") for name in names]
    found: dict[str, Callable[..., Any]] = {}
    for part in modules:
        for name, value in vars(part).items():
            is_code = inspect.isfunction(value) or inspect.isclass(value)
            if is_code and not name.startswith("_") and value.__module__ == part.__name__:
                found[name] = value
        found.update(part._more() if hasattr(part, "_more") else {})
    return found


def _built_in(kind: str, key: str, module_name: str | None, name: str) -> Callable[..., Any]:
    if (one := _named(module_name, name)) is not None:
        return one
    known = built_ins(kind)
    if name in known:
        return known[name]
    if module_name is None:
        raise UsageError(
            f"{key}: {shown(name)} names no function",
            'Write "file.py:function" (relative to the recipe) or a dotted path.',
        )
    hint = 'Give one of these names, a dotted import path, or "file.py:name" relative to the recipe.'
    raise UsageError(
        f"{key}: unknown {kind} {shown(name)}{did_you_mean(name, known)} (known: {', '.join(sorted(known))})", hint
    )


def _named(module_name: str | None, name: str) -> Callable[..., Any] | None:
    """Return a built-in by what its kind's module finds by name without loading the others, where it has such a way."""
    by_name = None if module_name is None else getattr(importlib.import_module(module_name), "_named", None)
    return None if by_name is None else by_name(name)


def _from_path(key: str, name: str, base_dir: Path) -> Any:
    """Import the longest prefix of a dotted path that is a module, then walk the attributes."""
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts) or len(parts) > MAX_PARTS:
        raise UsageError(f"{key}: {shown(name)} is no dotted path", "A path such as package.module.function.")
    if lies_beside(base_dir, parts[0]):
        return _from_beside(key, name, base_dir)
    for end in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:end])
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            missing = error.name or ""
            if module_name == missing or module_name.startswith(f"{missing}."):
                continue
            raise UsageError(f"{key}: {name!r} cannot be imported: {error}", f"Install {missing!r}.") from error
        except BaseException as error:
            if ends_the_command(error):
                raise
            raise UsageError(f"{key}: {name!r} cannot be imported: {text_of(error)}", "Fix that module.") from error
        return _attribute(key, name, found, module_name, parts[end:])
    hint = f"Install it beside tuner, or check the spelling; a file of yours is named as {parts[-2]}.py:{parts[-1]}."
    raise UsageError(f"{key}: {name!r}: there is no module {parts[0]!r}", hint)


def _attribute(key: str, name: str, found: Any, module_name: str, parts: Sequence[str]) -> Any:
    for part in parts:
        if not hasattr(found, part):
            close = did_you_mean(part, [item for item in dir(found) if not item.startswith("_")])
            raise UsageError(
                f"{key}: {name!r}: {module_name} has no {part!r}{close}", "Check the spelling of the path."
            )
        found = getattr(found, part)
    return found


def _from_beside(key: str, name: str, base_dir: Path) -> Any:
    """Import a dotted path whose first part is a module or a package in the recipe's folder."""
    parts = name.split(".")
    folder = Path(base_dir)
    for end in range(len(parts) - 1, 0, -1):
        stem = folder.joinpath(*parts[:end])
        for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
            if path.is_file():
                return _attribute(key, name, load_user_module(path, base_dir), ".".join(parts[:end]), parts[end:])
    hint = f'A file of yours is named as "{parts[0]}/file.py:{parts[-1]}".'
    raise UsageError(f"{key}: {name!r}: there is no such module in {folder / parts[0]}", hint)


def _from_file(key: str, file: str, attribute: str, base_dir: Path) -> Any:
    path = Path(base_dir) / Path(file).expanduser()
    if not attribute:
        raise UsageError(f"{key}: {file!r} names a file, but no function in it", f'Write "{file}:name".')
    if not os.path.isfile(path):  # which is false, and raises nothing, for a name that no disk could hold
        close = did_you_mean(
            path.name, [item.name for item in path.parent.glob("*.py")] if os.path.isdir(path.parent) else []
        )
        raise UsageError(
            f"{key}: no such file: {clipped(str(path), 300)}{close}", "The path is relative to the recipe's folder."
        )
    module = load_user_module(path, base_dir)
    if not hasattr(module, attribute):
        public = [item for item in vars(module) if not item.startswith("_")]
        raise UsageError(
            f"{key}: {path} has no {attribute!r}{did_you_mean(attribute, public)}", "Name a function of that file."
        )
    return getattr(module, attribute)


def arguments(table: Mapping[str, Any], own_keys: Sequence[str] = ("name",)) -> dict[str, Any]:
    """Return the component's arguments of a recipe table: all keys but `own_keys` and `args`, and those in `args`."""
    own = {"args", *own_keys}
    return {**{key: value for key, value in table.items() if key not in own}, **table.get("args", {})}


def bind(
    fn: Callable[..., Any],
    offered: Mapping[str, Any],
    args: Mapping[str, Any],
    where: str,
    *,
    positional: int = 0,
    through_kwargs: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the keyword arguments of a call: what `fn` asks for of `offered`, and `args`, checked.

    An offered argument is passed only where the signature names it; those in `through_kwargs` also where there is
    `**kwargs`. `args` win over offered ones. `positional`: the caller fills that many leading parameters by position.

    Raises:
        UsageError: every problem at once, one line each: "takes no such argument", "needs ...".
    """
    signature = _signature(fn)
    if signature is None:
        return dict(args)
    name = getattr(fn, "__name__", type(fn).__name__)
    parameters = list(signature.parameters.values())
    takes_any = any(item.kind is item.VAR_KEYWORD for item in parameters)
    leading = [item for item in parameters if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)][
        :positional
    ]
    by_name = {
        item.name: item
        for item in parameters
        if item not in leading and item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)
    }
    if len(leading) < positional and not any(item.kind is item.VAR_POSITIONAL for item in parameters):
        raise UsageError(f"{where}: {name}() must take {positional} positional arguments, it takes {len(leading)}")
    configurable = [item for item in by_name if item not in offered]
    problems = []
    for key in args:
        if key not in by_name and not takes_any:
            takes = ", ".join(configurable) or "none"
            close = did_you_mean(key, [*configurable, *_keys_of(where)])
            problems.append(f"{where}.{key}: {name}() takes no such argument{close} (takes: {takes})")
    values = {key: value for key, value in offered.items() if key in by_name or (takes_any and key in through_kwargs)}
    values.update(args)
    for key, item in by_name.items():
        if item.default is item.empty and key not in values:
            ours = [
                item for item in offered if item not in ("cache_dir", "recipe_dir")
            ]  # those are for our own sources
            passed = f" (tuner passes: {', '.join(ours)})" if ours else ""
            problems.append(f"{where}: {name}() needs {key!r}, which the recipe does not give{passed}")
    if problems:
        raise UsageError("\n".join(problems))
    return values


def asked(fn: Callable[..., Any], offered: Sequence[str]) -> tuple[str, ...]:
    """Return those of the offered arguments that the signature takes by name."""
    signature = _signature(fn)
    parameters = {} if signature is None else signature.parameters
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return tuple(name for name in offered if name in parameters and parameters[name].kind in by_name)


def _keys_of(table: str) -> list[str]:
    """Return the keys of a recipe's table that are tuner's own; none where it is no table."""
    field = Recipe.model_fields.get(table)
    return [] if field is None else [key for key in field.annotation.model_fields if key != "args"]  # type: ignore[union-attr]


def call(fn: Callable[..., Any], kwargs: Mapping[str, Any], where: str, base_dir: Path, *positional: Any) -> Any:
    """Call a component: an error in the user's file shows their frames, one of a library's names the table.

    Raises:
        UserCodeError: the user's function raised.
        UsageError: "does not accept its arguments", for a built-in or a library's function, whatever it raised.
        MemoryError, OSError, EOFError: as they are: not the arguments are at fault, but the machine or a file.
    """
    try:
        with user_code(where, base_dir):
            return fn(*positional, **kwargs)
    except (TunerError, MemoryError, OSError, EOFError, UnicodeError):
        raise
    except BaseException as error:
        if ends_the_command(error) or where_in_user_code(error, base_dir) is not None:
            raise
        name = getattr(fn, "__name__", type(fn).__name__)
        raise UsageError(
            f"{where}: {name}() does not accept its arguments: {first_line(error)}",
            f"Check the values under [{where}].",
        ) from error


@dataclass(frozen=True)
class Hook:
    """A function of the user's; it is called with all of `offers`, and passes on those that its signature asks for."""

    fn: Callable[..., Any]
    offers: tuple[str, ...]
    asks: tuple[str, ...]
    where: str
    base_dir: Path

    def __call__(self, *positional: Any, **named: Any) -> Any:
        offered = {**dict(zip(self.offers, positional, strict=False)), **named}
        with user_code(self.where, self.base_dir):
            return self.fn(**{name: offered[name] for name in self.asks})


def hook(kind: str, name: str, offered: Sequence[str], base_dir: Path) -> Hook:
    """Resolve a hook of the train table and check which of the offered arguments it asks for."""
    fn = resolve(kind, name, base_dir)
    where = KINDS[kind][0]
    return Hook(fn, tuple(offered), tuple(bind(fn, dict.fromkeys(offered), {}, where)), where, Path(base_dir))


def _signature(fn: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError):
        return None
