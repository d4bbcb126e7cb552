"""The healthy programs that the zoo's bugs are planted in: recipes as dictionaries, by name.

Over data sets (digits, shapes, cancer, cifar) and models (mlp, conv nets without and with batch norm, a residual
net, a small transformer). `parts.py` is copied beside every case's recipe; cifar needs `$TUNER_DATA/cifar10`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DATA: dict[str, dict[str, Any]] = {
    "digits": {"source": "digits"},
    "shapes": {"source": "parts.py:shapes", "normalize": "standardize"},  # bytes, as the next
    "cancer": {"source": "parts.py:cancer"},
    "cifar": {"source": "parts.py:cifar", "images": 2000, "normalize": "standardize"},
}

MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"name": "mlp", "width": 64, "depth": 2},
    "conv": {"name": "convnet", "width": 16, "depth": 2, "batch_norm": False},
    "convbn": {"name": "convnet", "width": 16, "depth": 2},
    "resnet": {"name": "resnet8", "width": 8},
    "transformer": {"name": "parts.py:transformer"},
}

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
    "adam": {"name": "adam", "lr": 1e-3},
}

STAGES: dict[str, dict[str, Any]] = {
    "lr-sweep": {"steps": 60},
    "coarse": {"trials": 4, "epochs": 2},
    "fine": {"trials": 3, "epochs": 8},
}

SHORTER: dict[str, dict[str, dict[str, Any]]] = {  # where an epoch takes longer
    "cifar": {"lr-sweep": {"steps": 50}, "fine": {"trials": 3, "epochs": 6}},
}

BASES = {
    "digits-mlp": ("digits", "mlp", "sgd"),
    "digits-conv": ("digits", "conv", "sgd"),
    "digits-convbn": ("digits", "convbn", "sgd"),
    "digits-resnet": ("digits", "resnet", "sgd"),
    "digits-transformer": ("digits", "transformer", "adam"),
    "shapes-conv": ("shapes", "conv", "sgd"),
    "shapes-convbn": ("shapes", "convbn", "sgd"),
    "shapes-resnet": ("shapes", "resnet", "sgd"),
    "cancer-mlp": ("cancer", "mlp", "sgd"),
    "cifar-convbn": ("cifar", "convbn", "sgd"),
    "cifar-resnet": ("cifar", "resnet", "sgd"),
}


def recipe_of(base: str) -> Mapping[str, Any]:
    """Return a base's recipe as nested tables."""
    data, model, optimizer = BASES[base]
    return {
        "name": base,
        "data": dict(DATA[data]),
        "model": dict(MODELS[model]),
        "optimizer": dict(OPTIMIZERS[optimizer]),
        "train": {"batch_size": 64, "precision": "fp32"},
        "search": {"optimizer.lr": "auto"},
        "stages": {name: dict(settings) for name, settings in {**STAGES, **SHORTER.get(data, {})}.items()},
    }
