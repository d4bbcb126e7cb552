"""What only the built-in training step does, and a `train.step` of the user's own would leave out without a word."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.core.errors import UsageError
from tuner.train.shares import loss_of_features

OFF = {"penalty": None, "l1": None, "clip_norm": None, "accumulate": 1}  # keys of [train], and what turns them off


def own_step_problems(tables: Mapping[str, Any], base_dir: Path) -> list[UsageError]:
    """Name every key that has no effect beside the recipe's own step."""
    train = tables["train"]
    if not train.get("step"):
        return []
    ours = [f"train.{key}" for key, off in OFF.items() if train.get(key, off) not in (off, [])]
    ours += ["teacher"] if tables.get("teacher") is not None else []
    features = loss_of_features(tables["loss"], base_dir)
    ours += [f"loss: {features}, which is taken of features,"] if features is not None else []
    hint = "Do it in your step, or leave train.step out."
    return [UsageError(_message(key, train["step"]), hint) for key in ours]


def _message(key: str, step: str) -> str:
    return f"{key}{' ' if key.endswith(',') else ': '}has no effect on train.step = {step!r}"
