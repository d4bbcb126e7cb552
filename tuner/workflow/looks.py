"""Looking at a recipe's model and data without training: `tuner inspect` and `tuner data`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner.core.trial import TrialEnv
from tuner.recipe.file import load_recipe
from tuner.stages import settings_models


def inspect(path: Path, overrides: list[str], epochs: int, out: Path | None) -> dict[str, Any]:
    """Return what the recipe's model is, layer by layer; pictures go into `out`."""
    from tuner.execute.in_process import inspect_model

    return inspect_model(_tables(path, overrides), _env(path), epochs, out)


def rates(path: Path, overrides: list[str], epochs: int) -> list[float]:
    """Return the rate of every update of a run of that many epochs."""
    from tuner.execute import in_process

    return in_process.rates(_tables(path, overrides), _env(path), epochs)


def throughput(path: Path, overrides: list[str]) -> dict[str, Any]:
    """Return examples per second and peak memory by batch size, on the GPU where there is one, and what fits."""
    from tuner.execute import in_process

    return in_process.throughput(_tables(path, overrides), replace(_env(path), device="auto"))


def data(path: Path, overrides: list[str], out: Path | None, suspects: bool) -> dict[str, Any]:
    """Return what the recipe's data are; samples and suspects go into `out`."""
    from tuner.execute.in_process import look_at_data

    return look_at_data(_tables(path, overrides), _env(path), out, suspects)


def _tables(path: Path, overrides: list[str]) -> dict[str, Any]:
    return load_recipe(path, overrides, settings=settings_models()).tables()


def _env(path: Path) -> TrialEnv:
    return TrialEnv(path.resolve().parent)
