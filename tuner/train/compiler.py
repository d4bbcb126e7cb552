"""Leave torch's compiler unloaded until something is compiled: an optimizer alone would load it, in 1.2 s of CPU.

Every `step` of torch.optim imports `torch._dynamo` to tell the compiler where to break its graph, and four of its
methods ask it to be left alone. Both mean nothing while nothing is compiled. So a module stands in its place that
answers these two; whatever else is asked of it, and any import of a part of it, loads the real one in its place.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, MutableSequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch

NAME = "torch._dynamo"


def leave_for_later() -> None:
    """Put the stand-in where the compiler would be, unless it is loaded."""
    if NAME not in sys.modules:
        sys.modules[NAME] = torch._dynamo = _Later(NAME)  # type: ignore[assignment]
        sys.meta_path.insert(0, _Parts())


def is_left() -> bool:
    """Return whether the stand-in is still there."""
    return isinstance(sys.modules.get(NAME), _Later)


def loaded() -> ModuleType:
    """Return the compiler, loaded now if it was not."""
    if is_left():
        del sys.modules[NAME]
        sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Parts)]
    return importlib.import_module(NAME)


class _Later(ModuleType):
    """Answers what optimizers ask of the compiler; gives way to it when more is asked."""

    __path__: MutableSequence[str] = []  # noqa: RUF012  (a package: its parts are asked of `_Parts`)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system looks at
            raise AttributeError(name)
        return getattr(loaded(), name)

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None:
        """Do nothing: there is no graph."""

    @staticmethod
    def disable(fn: Any = None, *args: Any, **options: Any) -> Any:
        """Return `fn` as it is while nothing is compiled, else as the compiler's own `disable` gives it."""
        if options != {"wrapping": False}:  # asked for by other code than torch's optimizers
            return loaded().disable(fn, *args, **options)
        return _while_left(fn, lambda: loaded().disable(fn, *args, **options))


def _while_left(fn: Callable[..., Any], disabled: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
    known = functools.lru_cache(disabled)

    def call(*args: Any, **kwargs: Any) -> Any:
        return (fn if is_left() else known())(*args, **kwargs)

    return call


class _Parts(MetaPathFinder, Loader):
    """Loads the whole compiler when a part of it is imported, and gives the part."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname.startswith(NAME + ".") and is_left() else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        loaded()
        return importlib.import_module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: it has been run."""
