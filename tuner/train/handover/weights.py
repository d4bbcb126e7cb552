"""The winner's weights as safetensors, and beside them a JSON file with all that is needed to use them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.core.errors import EnvironmentProblem
from tuner.core.store import write_bytes, write_json
from tuner.train.handover.winner import Winner


def write_weights(winner: Winner, about: Mapping[str, Any], path: Path) -> list[Path]:
    """Write `path` (safetensors) and the JSON beside it; return both paths. `about`: facts of the run to add to it.

    Raises:
        EnvironmentProblem: safetensors is not installed, or the disk refuses.
    """
    try:
        from safetensors.torch import save
    except ImportError:
        raise missing("safetensors", "--weights") from None
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in winner.model.state_dict().items()}
    card = path.with_suffix(".json")
    write_bytes(path, save(tensors))
    write_json(card, {"format": 1, "weights": path.name, **about, **description(winner)})
    return [path, card]


def description(winner: Winner) -> dict[str, Any]:
    """Return as JSON what the model takes and gives: one input's shape and dtype, its normalisation, the classes."""
    known = winner.interface
    statistics = {
        name: None if value is None else value.tolist() for name, value in winner.named_buffers(recurse=False)
    }
    return {
        "inputs": {
            "shape": list(known.shape),
            "dtype": str(known.dtype).removeprefix("torch."),
            "columns": None if known.columns is None else list(known.columns),
            "normalise": {"formula": "(x - shift) * factor", "shift": None, "factor": None, **statistics},
        },
        "num_classes": known.num_classes,
        "class_names": list(known.class_names),
    }


def missing(package: str, option: str) -> EnvironmentProblem:
    """Return the error of an export whose package is not installed."""
    return EnvironmentProblem(f"{option} needs {package}, which is not installed", "pip install 'tuner[export]'")
