"""Checkpoints and saved states: tensors and plain values only, written whole or not at all, read as data."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from tuner.core.errors import InputError
from tuner.core.store import write_bytes


def save(path: Path, value: dict[str, Any]) -> None:
    """Write `value` whole or not at all. It is laid out in memory first: torch turns an error of the disk into its own.

    Raises:
        EnvironmentProblem: "cannot write" (disk full, folder read-only).
    """
    content = io.BytesIO()
    torch.save(_compact(value), content)
    write_bytes(path, content.getbuffer())


def _compact(value: Any) -> Any:
    """Return the value with its tensors alone: torch would save the whole of an array of which a tensor is a part."""
    if isinstance(value, dict):
        return {key: _compact(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_compact, value))
    is_part = isinstance(value, torch.Tensor) and value.untyped_storage().nbytes() > value.nbytes
    return value.detach().clone() if is_part else value


def load(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read what `save` wrote; nothing in the file is ever run.

    Raises:
        InputError: "no such checkpoint", "not a checkpoint of tensors and plain values".
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint", "Run the stage that writes it again.")
    try:
        value = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        first = str(error).strip().splitlines()[:1]
        raise InputError(
            f"{path}: not a checkpoint of tensors and plain values ({type(error).__name__}: {''.join(first)})",
            "It is torn or was changed: delete it, and run the stage that writes it again with --fresh.",
        ) from error
    if not isinstance(value, dict):
        raise InputError(
            f"{path}: not a checkpoint (it holds a {type(value).__name__})", "Run the stage again with --fresh."
        )
    return value


def is_plain(value: Any) -> bool:
    """Return whether `value` consists of tensors and plain values, so that `load` would give it back."""
    if isinstance(value, dict):
        return all(is_plain(key) and is_plain(item) for key, item in value.items())
    if type(value) in (list, tuple):
        return all(is_plain(item) for item in value)
    return value is None or type(value) in (bool, int, float, str, torch.Tensor, torch.nn.Parameter)
