"""The user's own modules: imported from the recipe's folder, afresh for every trial, never pickled."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
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
    """Drop every module of the user's from memory, so that the next trial imports it afresh."""
    for name, module in list(sys.modules.items()):
        if _user_file(module) is not None:
            del sys.modules[name]
    for folder in _user_folders:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)
    _user_folders.clear()
    _foreign.clear()
    _seen.clear()
    importlib.invalidate_caches()


def load_user_module(path: Path, base_dir: Path) -> ModuleType:
    """Import a file of the user's; its siblings in `base_dir` can be imported by it.

    Within one trial a file is one module, so that its functions share their globals; when any of the user's files has
    changed on disk, or another recipe's folder is asked for, all of them are imported afresh.

    Raises:
        UserCodeError: the file raised while it was imported, or is not valid Python.
    """
    path, folder = Path(path).resolve(), str(Path(base_dir).resolve())
    if _user_folders != [folder] or any(_stamp(file) != stamp for file, stamp in _seen.items()):
        forget_user_modules()
        _foreign.update(sys.modules)
        _user_folders.append(folder)
        sys.path.insert(0, folder)
    for module in list(sys.modules.values()):
        if _user_file(module) == str(path):
            return module
    name = _module_name(path, Path(folder))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _no_bytecode(), user_code(f"importing {path.name}", Path(folder)):
            spec.loader.exec_module(module)
    except (SyntaxError, UnicodeError) as error:  # without a line: not UTF-8 text, or bytes of 0
        sys.modules.pop(name, None)
        raise UserCodeError(f"{path}: not valid Python: {error}", "Save it as plain UTF-8 text.") from error
    except BaseException:
        sys.modules.pop(name, None)
        raise
    for file in user_module_files():
        _seen.setdefault(str(file), _stamp(str(file)))
    return module


def user_module_files() -> list[Path]:
    """Return the files of the user's modules that are loaded now, sorted."""
    return sorted({Path(file) for module in list(sys.modules.values()) if (file := _user_file(module)) is not None})


def _user_file(module: Any) -> str | None:
    """Return the module's file when it was imported from the user's folder, and is no installed package."""
    file, name = getattr(module, "__file__", None), getattr(module, "__name__", "")
    if not isinstance(file, str) or name in _foreign or name.split(".")[0] == "tuner":
        return None
    installed = "site-packages" in file or file.startswith((f"{sys.prefix}/", f"{sys.base_prefix}/"))
    ours = any(file.startswith(f"{folder}/") for folder in _user_folders)
    return file if ours and not installed else None


def _module_name(path: Path, folder: Path) -> str:
    """Name a file as its siblings would import it; where another module has that name, give it one of its own."""
    name = ".".join(path.relative_to(folder).with_suffix("").parts) if path.is_relative_to(folder) else path.stem
    return f"_tuner_user_{path.stem}" if name in sys.modules or not name.replace(".", "_").isidentifier() else name


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
