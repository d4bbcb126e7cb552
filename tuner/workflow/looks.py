"""Looking at a recipe's model and data without training: `tuner inspect` and `tuner data`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner.core.trial import TrialEnv
from tuner.recipe.file import load_recipe
from tuner.recipe.model import Recipe
from tuner.stages import settings_models


def inspect(path: Path, overrides: list[str], epochs: int, out: Path | None) -> dict[str, Any]:
    """Return what the recipe's model is, layer by layer; pictures go into `out`, or the run's folder `inspect`."""
    from tuner.execute.in_process import inspect_model

    recipe = _recipe(path, overrides)
    return inspect_model(recipe.tables(), _env(path), epochs, out or _folder(recipe))


def rates(path: Path, overrides: list[str], epochs: int) -> list[float]:
    """Return the rate of every update of a run of that many epochs."""
    from tuner.execute import in_process

    return in_process.rates(_recipe(path, overrides).tables(), _env(path), epochs)


def throughput(path: Path, overrides: list[str]) -> dict[str, Any]:
    """Return examples per second and peak memory by batch size, on the GPU where there is one, and what fits."""
    from tuner.execute import in_process

    return in_process.throughput(_recipe(path, overrides).tables(), replace(_env(path), device="auto"))


def data(path: Path, overrides: list[str], out: Path | None, suspects: bool) -> dict[str, Any]:
    """Return what the recipe's data are; samples and suspects go into `out`, or the run's folder `inspect`."""
    from tuner.execute.in_process import look_at_data

    recipe = _recipe(path, overrides)
    return look_at_data(recipe.tables(), _env(path), out or _folder(recipe), suspects)


def _recipe(path: Path, overrides: list[str]) -> Recipe:
    return load_recipe(path, overrides, settings=settings_models())


def _folder(recipe: Recipe) -> Path:
    return Path("runs") / recipe.name / "inspect"


def _env(path: Path) -> TrialEnv:
    return TrialEnv(path.resolve().parent)
