"""Files that belong to a trial on another machine: each is sent by its content, once, and checked when it arrives."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from tuner.core.cached import DECODED, cache_folder
from tuner.core.errors import InputError
from tuner.core.locks import hold
from tuner.core.store import sha256

AGAIN = "Give the same command again."


class Blobs(Protocol):
    """Contents by their sha256."""

    def put(self, path: Path) -> str:
        """Keep the content of a file, once however often it is put; return its sha256 (hex)."""

    def fetch(self, digest: str, to: Path) -> None:
        """Write a content to a file; FileNotFoundError: it is not there."""


def packed(user_files: Mapping[str, str], folder: Path, blobs: Blobs) -> dict[str, str]:
    """Keep the files of the recipe's folder; what it names by a path of the machine must be there on every machine."""
    relative = [name for name in user_files if not (os.path.isabs(name) or name.startswith(("~", "$")))]
    return {name: blobs.put(folder / name) for name in relative if (folder / name).is_file()}


def recipe_dir(wanted: str, user_files: Mapping[str, str], blobs: Blobs, folder: Path) -> Path:
    """Return the recipe's folder where this machine sees the same files in it, else one with those that were sent."""
    there = Path(wanted)
    if there.is_dir() and all(
        (there / name).is_file() and sha256(there / name) == digest for name, digest in user_files.items()
    ):
        return there
    for name, digest in user_files.items():
        fetched(blobs, digest, within(folder / "recipe", name))
    return folder / "recipe"


def fetched(blobs: Blobs, digest: str, to: Path) -> None:
    """Write a content to a file.

    Raises:
        InputError: "arrived damaged".
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    blobs.fetch(digest, to)
    if sha256(to) != digest:
        to.unlink()
        raise InputError(f"{to.name}: arrived damaged from another machine", AGAIN)


def share_decoded(name: str, digest: str, blobs: Blobs) -> None:
    """Put decoded data that were sent into this machine's cache, once; where that fails the trial decodes them."""
    path = cache_folder() / DECODED / Path(name).name
    if path.exists():
        return
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with suppress(OSError, InputError), hold(_made(path.with_suffix(".lock")), on_wait=lambda: None):
        if path.exists():
            return
        try:
            fetched(blobs, digest, temporary)
            temporary.chmod(0o644)  # what others can write is not loaded
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def within(folder: Path, name: str) -> Path:
    """Return the path of a file that was sent, which must lie below its folder.

    Raises:
        InputError: "lies outside the folder of the recipe".
    """
    path = Path(os.path.normpath(folder / name))
    if not path.is_relative_to(folder):
        raise InputError(f"{name}: lies outside the folder of the recipe", "Put the file beside the recipe.")
    return path
