"""Fine-tuning: weights from a file, what of the model is frozen and when it is released."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tuner.core.errors import EnvironmentProblem, InputError, UsageError, did_you_mean
from tuner.parts.blocks import NORMS, blocks_of, head_of
from tuner.recipe.model import expand_path

INSIDE = ("state_dict", "model", "model_state_dict", "module")  # keys under which files keep a state dict
PREFIXES = ("module.", "_orig_mod.", "model.")


@dataclass(frozen=True)
class Fit:
    """What of a file of weights fitted the model.

    `loaded`: names in the model. `misfits`: (name, shape in the file, shape in the model). `missing`: in the model
    only. `unused`: in the file only.
    """

    loaded: tuple[str, ...]
    misfits: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def words(self) -> list[str]:
        """Say it in lines for a reader."""
        lines = [f"{len(self.loaded)} of the model's {len(self.loaded) + len(self.misfits) + len(self.missing)} loaded"]
        lines += [
            f"{name}: {theirs} in the file, {ours} in the model: drawn again" for name, theirs, ours in self.misfits
        ]
        lines += [f"{name}: not in the file: drawn again" for name in self.missing]
        return lines + [f"{name}: in the file only" for name in self.unused]


def read_weights(path: Path, where: str = "finetune.weights") -> dict[str, Tensor]:
    """Return the state dict of a file (torch's, tuner's or safetensors), without prefixes such as `module.`.

    Raises:
        InputError: "no such file", "not a file of weights".
        EnvironmentProblem: safetensors is not installed.
    """
    if not path.is_file():
        close = did_you_mean(path.name, [item.name for item in path.parent.glob("*")] if path.parent.is_dir() else [])
        raise InputError(f"{where}: no such file: {path}{close}", "The path is relative to the recipe.")
    try:
        found = (
            _safetensors(path, where) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        )
    except EnvironmentProblem:
        raise
    except Exception as error:
        first = str(error).strip().splitlines()[:1]
        text = f"{where}: {path}: not a file of weights ({type(error).__name__}: {''.join(first)})"
        raise InputError(text, "Save it with torch.save(model.state_dict(), ...) or as safetensors.") from error
    while isinstance(found, Mapping) and (
        inside := next((key for key in INSIDE if isinstance(found.get(key), Mapping)), "")
    ):
        found = found[inside]
    if not isinstance(found, Mapping) or not found or not all(isinstance(item, Tensor) for item in found.values()):
        text = f"{where}: {path}: not a file of weights: it holds no state dict"
        raise InputError(text, "Save it with torch.save(model.state_dict(), ...) or as safetensors.")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): item for name, item in found.items()}
    return dict(found)


def _safetensors(path: Path, where: str) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        text = f"{where}: {path}: reading it needs safetensors, which is not installed"
        raise EnvironmentProblem(text, "pip install 'tuner[export]'") from None
    return load_file(path)


@torch.no_grad()
def load_into(model: nn.Module, weights: Mapping[str, Tensor], path: Path, where: str = "finetune.weights") -> Fit:
    """Copy every tensor that fits by name and shape into the model, and say what did not.

    Raises:
        InputError: "nothing fits".
    """
    own = model.state_dict()
    misfits = tuple(
        (name, tuple(weights[name].shape), tuple(item.shape))
        for name, item in own.items()
        if name in weights and weights[name].shape != item.shape
    )
    loaded = tuple(name for name, item in own.items() if name in weights and weights[name].shape == item.shape)
    if not any(own[name].ndim > 1 for name in loaded):
        names = f"the file has {', '.join(list(weights)[:3])}, ...; the model has {', '.join(list(own)[:3])}, ..."
        raise InputError(f"{where}: {path}: nothing fits the model: {names}", "Take the weights of this model.")
    for name in loaded:
        own[name].copy_(weights[name])
    missing = tuple(name for name in own if name not in weights)
    return Fit(loaded, misfits, missing, tuple(name for name in weights if name not in own))


def loaded(model: nn.Module, table: Mapping[str, Any], folder: Path) -> Fit | None:
    """Load the table's weights into the model; None where it names none.

    Raises:
        UsageError, InputError: the file is not there, or does not fit.
    """
    if table.get("weights") is None:
        return None
    path = Path(expand_path(table["weights"], folder))
    return load_into(model, read_weights(path), path)


def frozen_modules(model: nn.Module, table: Mapping[str, Any]) -> list[nn.Module]:
    """Return the modules that `finetune.way` keeps as they are, until they are released.

    Raises:
        UsageError: there are not so many blocks.
    """
    way, head = table.get("way", "all"), set(head_of(model).modules())
    if way == "head":
        return [module for module in model.modules() if not list(module.children()) and module not in head]
    if way != "last-blocks":
        return []
    blocks = blocks_of(model)
    count = table.get("blocks", 1)
    kept = len(blocks) - 1 - count  # the head is the last of them
    if kept < 1:
        raise UsageError(
            f"finetune.blocks: {count} of the model's {len(blocks) - 1} blocks before the head leave nothing frozen",
            'Give fewer, or set way = "all".',
        )
    return [module for block in blocks[:kept] for part in block for module in part.modules()]


def freeze(model: nn.Module, table: Mapping[str, Any], epoch: int) -> None:
    """Freeze what is frozen in this epoch (from 1): no gradients, and batch norm in eval mode; release what was.

    What the model itself does not train is never released. To be called after the model was put into train mode.
    """
    release = table.get("release_epoch")
    held = release is None or epoch <= release
    for module in frozen_modules(model, table):
        for item in module.parameters(recurse=False):
            if held and item.requires_grad:
                item.requires_grad_(False).is_held = True  # type: ignore[attr-defined]
            elif not held and getattr(item, "is_held", False):
                item.requires_grad_(True).is_held = False  # type: ignore[attr-defined]
        if held and isinstance(module, NORMS) and table.get("freeze_norm", True):
            module.eval()


def groups(table: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the parameter groups that `finetune.way` stands for: the body at `factor` times the rate."""
    if table is None or table.get("way") != "discriminative":
        return []
    return [{"name": "body_lr", "factor": table.get("factor", 0.1)}]
