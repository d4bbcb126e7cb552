"""Put back what a trial changed of torch and of the process, for trials that share one (`--workers 0`)."""

from __future__ import annotations

import os
import random
import signal
import sys
import warnings
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module as hooks

from tuner.train.device import reset_peak_memory, set_deterministic

PATCHED = ("torch", "torch._tensor", "torch.functional", "numpy", "random")  # modules that user code patches
PATCHED_WITHIN = ("torch.nn.", "torch.optim.", "torch.utils.data.")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def put_back() -> Iterator[None]:
    """Undo, after the block, what it did to torch's functions, classes, modes and hooks, and to the process.

    A child that the block forked, and that comes back to here, ends: it is nobody's trial.
    """
    reset_peak_memory("cpu")  # what an earlier trial took
    own, found = os.getpid(), _Found()
    try:
        yield
    finally:
        if os.getpid() != own:
            os._exit(1)
        found.restore()


class _Found:
    """What was there before a trial."""

    def __init__(self) -> None:
        self.names = [(place, dict(vars(place))) for place in _places()]
        self.dicts = [(one, dict(one)) for one in (_hook_dicts())]
        self.environ, self.cwd, self.path = dict(os.environ), os.getcwd(), list(sys.path)
        self.filters = list(warnings.filters)
        self.streams = sys.stdout, sys.stderr
        self.dtype, self.grad = torch.get_default_dtype(), torch.is_grad_enabled()
        self.device = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
        self.modes = torch._C._len_torch_function_stack(), len(_dispatch_modes())
        self.deterministic = _deterministic()
        self.autocast = [(kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in _KINDS]
        self.nesting = _autocast_nesting()
        self.random = random.getstate(), np.random.get_state(), torch.get_rng_state()
        self.signals = [(number, signal.getsignal(number)) for number in SIGNALS]

    def restore(self) -> None:
        _restore_modes(self)
        for place, before in self.names:
            _restore_names(place, before)
        for one, content in self.dicts:
            if one != content:
                one.clear()
                one.update(content)
        os.environ.clear()
        os.environ.update(self.environ)
        os.chdir(self.cwd)
        sys.path[:] = self.path
        sys.stdout, sys.stderr = self.streams
        warnings.filters[:] = self.filters  # type: ignore[index]
        random.setstate(self.random[0])
        np.random.set_state(self.random[1])
        torch.set_rng_state(self.random[2])
        with suppress(ValueError):  # not the main thread: signals do not come here
            for number, handler in self.signals:
                signal.signal(number, handler)


_KINDS = ("cpu", "cuda")


def _restore_modes(found: _Found) -> None:
    """Leave the modes that were entered, then set what is one value."""
    while torch._C._len_torch_function_stack() > found.modes[0]:
        torch._C._pop_torch_function_stack()
    while len(_dispatch_modes()) > found.modes[1]:
        torch._C._pop_torch_dispatch_stack(None)
    torch._GLOBAL_DEVICE_CONTEXT.device_context = found.device
    torch.set_default_dtype(found.dtype)
    torch.set_grad_enabled(found.grad)
    set_deterministic(found.deterministic[0], found.deterministic[1])
    torch.backends.cudnn.deterministic = found.deterministic[2]
    torch._C._set_deterministic_fill_uninitialized_memory(found.deterministic[3])
    for kind, enabled, dtype in found.autocast:
        torch.set_autocast_enabled(kind, enabled)
        torch.set_autocast_dtype(kind, dtype)
    for _ in range(_autocast_nesting() - found.nesting):  # while one is entered, casts of old weights are kept
        torch.autocast_decrement_nesting()
    torch.clear_autocast_cache()


def _deterministic() -> tuple[bool, bool, bool, bool]:
    modes = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    return *modes, torch.backends.cudnn.deterministic, torch._C._get_deterministic_fill_uninitialized_memory()


def _autocast_nesting() -> int:
    """Return how many autocast blocks are entered."""
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()


def _dispatch_modes() -> list[Any]:
    return list(range(torch._C._len_torch_dispatch_stack()))


def _hook_dicts() -> list[MutableMapping[Any, Any]]:
    """Return the dictionaries of hooks that hold for every module."""
    return [value for name, value in vars(hooks).items() if name.startswith("_global_") and isinstance(value, dict)]


def _places() -> list[Any]:
    """Return the modules of libraries that user code patches, and the classes that are written in them."""
    modules = [module for name, module in list(sys.modules.items()) if _is_patched(name) and module is not None]
    classes = [
        value
        for module in modules
        for value in list(vars(module).values())
        if issubclass(type(value), type) and value.__module__ == module.__name__
    ]
    return [*modules, *classes]


def _is_patched(name: str) -> bool:
    return name in PATCHED or f"{name}.".startswith(PATCHED_WITHIN)


def _restore_names(place: Any, before: dict[str, Any]) -> None:
    """Set what was set to something else or deleted; delete from a class what hides a method that it inherits.

    What else is new, as after an import, may stay.
    """
    now = dict(vars(place))
    for name, value in before.items():
        if now.get(name, _Found) is not value:
            with suppress(AttributeError, TypeError):  # a class that is written in C
                setattr(place, name, value)
    for name in now.keys() - before.keys():
        if isinstance(place, type) and callable(now[name]) and any(name in vars(base) for base in place.__mro__[1:]):
            with suppress(AttributeError, TypeError):
                delattr(place, name)
