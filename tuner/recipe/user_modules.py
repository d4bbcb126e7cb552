"""The user's own modules: imported from the recipe's folder, from scratch for every trial, never pickled."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from tuner.core.errors import UserCodeError, user_code

_user_folders: list[str] = []
_foreign: set[str] = set()  # names of the modules that were there before the user's folder was
_seen: dict[str, tuple[int, int]] = {}  # file of a loaded user module -> (mtime_ns, size) when it was loaded


def forget_user_modules() -> None:
    """Drop every module of the user's from memory, so that the next trial imports it from scratch."""
    if not _user_folders:
        return  # a look at all modules, and at the finders' caches, takes 12 ms
    for name, module in list(sys.modules.items()):
        if _user_file(module) is not None:
            del sys.modules[name]
    for folder in _user_folders:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)
    _user_folders.clear()
    _foreign.clear()
    _seen.clear()


def load_user_module(path: Path, base_dir: Path) -> ModuleType:
    """Import a file of the user's; its siblings in `base_dir` can be imported by it.

    Within one trial a file is one module, so that its functions share their globals; when any of the user's files has
    changed on disk, or another recipe's folder is asked for, all of them are imported from scratch.

    Raises:
        UserCodeError: the file raised while it was imported, or is not valid Python.
    """
    path, folder = Path(path).resolve(), str(Path(base_dir).resolve())
    if _user_folders != [folder] or any(_stamp(file) != stamp for file, stamp in _seen.items()):
        forget_user_modules()
        importlib.invalidate_caches()
        _foreign.update(sys.modules)
        _user_folders.append(folder)
        sys.path.insert(0, folder)
    for module in list(sys.modules.values()):
        if _user_file(module) == str(path):
            return module
    try:
        with _no_bytecode(), _no_arguments(path), user_code(f"importing {path.name}", Path(folder)):
            module = _import(path, Path(folder))
    except (SyntaxError, UnicodeError) as error:  # without a line: not UTF-8 text, or bytes of 0
        raise UserCodeError(f"{path}: not valid Python: {error}", "Save it as plain UTF-8 text.") from error
    for file in user_module_files():
        _seen.setdefault(str(file), _stamp(str(file)))
    return module


def lies_beside(base_dir: Path, name: str) -> bool:
    """Return whether a module or package of this name is in the recipe's folder, and none of that name is loaded.

    A loaded one that is not the user's (torch, timm) is never hidden by a folder of theirs.
    """
    folder = Path(base_dir)
    loaded = sys.modules.get(name)
    if loaded is not None and _user_file(loaded) is None and getattr(loaded, "__file__", None) is not None:
        return False
    return os.path.isfile(folder / f"{name}.py") or any((folder / name).glob("*.py"))


def user_module_files() -> list[Path]:
    """Return the files of the user's modules that are loaded now, sorted."""
    return sorted({Path(file) for module in list(sys.modules.values()) if (file := _user_file(module)) is not None})


def _import(path: Path, folder: Path) -> ModuleType:
    """Import a file under the name that its siblings import it by, its packages first; else under one of its own."""
    name = _module_name(path, folder)
    if "." in name:  # in a package: its __init__ may import this very file, so Python's own order is kept
        module = importlib.import_module(name)
        if _user_file(module) == str(path):
            return module
        name = _own_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


@contextlib.contextmanager
def _no_arguments(path: Path) -> Iterator[None]:
    """Hide the command line: a module that parses arguments when it is imported gets its defaults, not tuner's."""
    before, sys.argv = sys.argv, [str(path)]
    try:
        yield
    finally:
        sys.argv = before


def _user_file(module: Any) -> str | None:
    """Return the module's file when it was imported from the user's folder, and is no installed package."""
    file, name = getattr(module, "__file__", None), getattr(module, "__name__", "")
    if not isinstance(file, str) or name in _foreign or name.split(".")[0] == "tuner":
        return None
    installed = "site-packages" in file or file.startswith((sys.prefix + os.sep, sys.base_prefix + os.sep))
    ours = any(file.startswith(f"{folder}{os.sep}") for folder in _user_folders)
    return file if ours and not installed else None


def _module_name(path: Path, folder: Path) -> str:
    """Name a file as its siblings would import it; where another module has that name, give it one of its own."""
    parts = path.relative_to(folder).with_suffix("").parts if path.is_relative_to(folder) else (path.stem,)
    parts = parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts
    name = ".".join(parts)
    importable = name not in sys.modules and all(part.isidentifier() for part in parts)  # not v1.2.py
    return name if importable else _own_name(path)


def _own_name(path: Path) -> str:
    return f"_tuner_user_{path.stem.replace('.', '_')}"


def _stamp(file: str) -> tuple[int, int]:
    try:
        info = Path(file).stat()
    except OSError:
        return (0, 0)
    return info.st_mtime_ns, info.st_size


@contextlib.contextmanager
def _no_bytecode() -> Iterator[None]:
    """Write no __pycache__ beside the user's files: they may be read-only, and its time stamps are whole seconds."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
