"""What a run was made from beside the recipe: the user's Python files, and the data on disk. No torch, no import."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tuner.core.store import sha256, write_bytes
from tuner.recipe.model import PATH_KEYS, expand_path, paths_expanded

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_HOOKS = ("step", "evaluate", "metric")


def referenced_files(tables: Mapping[str, Any], search: Mapping[str, Any] = {}) -> list[str]:
    """Return every `file.py` that the tables name as `file.py:function`, choices of the search included."""
    names = {text.rpartition(":")[0] for text in _strings([tables, search]) if _is_reference(text)}
    return sorted(names)


def _is_path(text: str) -> bool:
    """Return whether a text may be a dotted path, such as `package.module.Class`."""
    parts = text.split(".")
    return 1 < len(parts) < 20 and all(part.isidentifier() for part in parts)


def _is_reference(text: str) -> bool:
    file, colon, name = text.rpartition(":")
    return bool(colon) and file.endswith(".py") and name.isidentifier()


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)


def user_modules(tables: Mapping[str, Any], search: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Return {path relative to the recipe's folder: file} of the referenced files and what they import from there."""
    found: dict[str, Path] = {}
    waiting = [folder / name for name in referenced_files(tables, search)]
    waiting += [
        file for name in _strings([tables, search]) if _is_path(name) for file in _files_of(name.split("."), folder)
    ]
    while waiting:
        path = Path(os.path.normpath(waiting.pop()))
        key = relative(path, folder)
        if key in found or not os.path.isfile(path):
            continue
        found[key] = path
        waiting += _local_imports(path, folder)
    return dict(sorted(found.items()))


def relative(path: Path, folder: Path) -> str:
    """Return a file's path from a folder with forward slashes, so that ids of trials are those of any system.

    On another drive of Windows, where there is no way from there, it begins with `..` as all that lies outside does.
    """
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return f"../{path.as_posix()}"


def _local_imports(path: Path, folder: Path) -> Iterator[Path]:
    try:
        tree = ast.parse(path.read_bytes())  # bytes: a byte order mark and a declared encoding are Python's to read
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        names: list[str] = []
        bases, level = [folder, path.parent], 0
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            stem = node.module or ""
            names = [stem, *(f"{stem}.{alias.name}".lstrip(".") for alias in node.names)]
            level = node.level
            bases = list(path.parents[level - 1 : level]) if level else bases
        for base in dict.fromkeys(bases):
            found = [base / "__init__.py"] if level else []  # the package that a relative import starts from
            found += [file for name in filter(None, names) for file in _files_of(name.split("."), base)]
            yield from (file for file in found if file.is_file())


def libraries(tables: Mapping[str, Any], search: Mapping[str, Any], folder: Path) -> list[str]:
    """Return the installed packages that the recipe names by dotted path or that the user's files import, sorted.

    Python's own, and what lies in the recipe's folder, are not among them.
    """
    names = {text.partition(".")[0] for text in _strings([tables, search]) if _DOTTED.fullmatch(text)}
    for path in user_modules(tables, search, folder).values():
        names |= set(_imported(path))
    there = (name for name in names if not (folder / name).exists() and not (folder / f"{name}.py").exists())
    return sorted(name for name in there if name not in sys.stdlib_module_names and _is_installed(name))


def _imported(path: Path) -> Iterator[str]:
    """Return the top names of what a file imports."""
    with suppress(SyntaxError, ValueError, OSError):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                yield node.module.partition(".")[0]


def _is_installed(name: str) -> bool:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return found is not None and "site-packages" in str(found.origin)


def _files_of(parts: list[str], base: Path) -> list[Path]:
    """Return the files that importing a dotted name may run: those of the packages on the way, and its own."""
    packages = [base.joinpath(*parts[:end]) / "__init__.py" for end in range(1, len(parts) + 1)]
    return [*packages, base.joinpath(*parts).with_suffix(".py")]


def hash_user_files(modules: Mapping[str, Path]) -> dict[str, str]:
    """Return {relative path: sha256}."""
    return {key: sha256(path) for key, path in modules.items()}


def copy_user_files(modules: Mapping[str, Path], target: Path) -> None:
    """Copy the user's files, as run, into the run folder; one from outside the recipe's folder keeps its name only."""
    for key, path in modules.items():
        write_bytes(target / (path.name if key.startswith("..") else key), path.read_bytes())


def hash_weights(tables: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Return {path as the recipe names it: sha256} of the files that trials begin with or learn from, data apart."""
    named = (("finetune", "weights"), ("teacher", "distill"), ("teacher", "unlabelled"))
    texts = [value for table, key in named if (value := (tables.get(table) or {}).get(key))]
    return {text: sha256(path) for text in texts if (path := Path(expand_path(text, folder))).is_file()}


def hash_data(data: Mapping[str, Any], folder: Path) -> str:
    """Return a hash of the files that the data table names: content of small files, names, sizes and times of the rest.

    Empty when the table names none (bundled, downloaded or self-made data).
    """
    parts = {}
    named = {key: value for key, value in data.items() if key in PATH_KEYS and isinstance(value, str)}
    for key, value in sorted(paths_expanded(named, folder).items()):
        path = Path(value)
        if path.is_file():
            parts[key] = sha256(path) if path.stat().st_size < 64 << 20 else _stat(path)
        elif path.is_dir():
            listing = hashlib.sha256()
            for line in sorted(_listing(str(path), "", ())):
                listing.update(line.encode(errors="surrogateescape"))
            parts[key] = listing.hexdigest()
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16] if parts else ""


def _stat(path: Path) -> str:
    info = path.stat()
    return f"{info.st_size}:{info.st_mtime_ns}"


def _listing(root: str, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Yield `name size time` of every file below a folder; a link back to one of the folders `above` is passed over."""
    folder = os.stat(root)
    if (here := (folder.st_dev, folder.st_ino)) in above:
        return
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                yield from _listing(entry.path, f"{prefix}{entry.name}/", (*above, here))
            else:
                info = entry.stat(follow_symlinks=os.path.isfile(entry))  # a link to nowhere has no target to look at
                yield f"{prefix}{entry.name} {info.st_size} {info.st_mtime_ns}\n"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
