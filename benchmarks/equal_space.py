"""The nets and the space of the part `equal_time`, the same for every side: five hyperparameters."""

from __future__ import annotations

from typing import Any

RANGES: dict[str, tuple[float, float, bool]] = {  # key -> low, high, in the logarithm
    "optimizer.lr": (1e-4, 1.0, True),  # tuner's is "auto": it gets no range, and finds a band in step 3
    "optimizer.weight_decay": (1e-6, 1e-2, True),
    "optimizer.momentum": (0.5, 0.99, False),
    "model.dropout": (0.0, 0.5, False),
}
MODELS: dict[str, dict[str, Any]] = {
    "digits": {"name": "convnet", "width": 16, "depth": 2, "dropout": 0.1},
    "letters": {"name": "mlp", "width": 128, "depth": 2, "dropout": 0.1},
    "fashion": {"name": "convnet", "width": 8, "depth": 3, "dropout": 0.1},
    "cifar10": {"name": "convnet", "width": 16, "depth": 3, "dropout": 0.1},
}
CHOICES: dict[str, dict[str, list[Any]]] = {
    "digits": {"model.width": [8, 16, 32]},
    "letters": {"model.width": [64, 128, 256]},
    "fashion": {"model.width": [8, 16]},
    "cifar10": {"model.width": [8, 16, 32]},
}
OPTIMIZER: dict[str, Any] = {"name": "sgd", "lr": 1e-2, "weight_decay": 1e-4, "momentum": 0.9}
OWN: dict[str, dict[str, Any]] = {  # what a user would have begun with: the first trial of every side
    name: {
        **{f"optimizer.{key}": OPTIMIZER[key] for key in ("lr", "weight_decay", "momentum")},
        **{f"model.{key}": model[key] for key in ("dropout", "width")},
    }
    for name, model in MODELS.items()
}
