"""What training a program gives: the number that it reports, and what the trained model can really do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.case import Case
from tests.zoo.recipe import write_folder
from tests.zoo.task_scores import as_columns, scores_of
from tuner import stages
from tuner.core.errors import TunerError
from tuner.core.trial import TrialEnv, TrialSpec, apply_overrides
from tuner.recipe import registry
from tuner.recipe.file import load_recipe
from tuner.recipe.model import Recipe
from tuner.train.data import Data
from tuner.train.evaluate import as_float, joined
from tuner.train.loop import evaluation_batch, fit
from tuner.train.nested import scored_part
from tuner.train.preflight import preflight
from tuner.train.setup import make_setup

ALONE = 200  # val examples that are shown to the model one at a time


def measure(case: Case, seed: int, folder: Path, twin: bool) -> dict[str, float | str]:
    """Train a case, or its healthy twin, with the recipe's own rate over fine's horizon, and return what came out.

    `failed`: why nothing did (the recipe is refused, the training raised or diverged), with the accuracy of a guess.
    Otherwise, of the weights that the recipe's own monitor picks: `reported`, `reported_loss` (val, as the program
    evaluates it) and what `task_scores` finds in eval mode: `accuracy` (the task's), `balanced_accuracy`, `nll` on the
    program's val split, `alone` with one example at a time, and `clean_accuracy` on the val split of the healthy twin
    where the examples have the same form.
    """
    path = write_folder(case, folder, healthy_twin=twin)
    classes = 10
    try:
        recipe = load_recipe(path, seed=seed, settings=stages.settings_models())
        env = TrialEnv(folder.resolve())
        answer = preflight({**recipe.tables(), "search": dict(recipe.search)}, env)
        if answer.problems:
            return _failed(f"refused: {answer.problems[0][1]}", classes)
        classes = answer.summary["num_classes"]
        setup = make_setup(_spec(recipe, seed), env)
        training = fit(setup)
        if training.diverged is not None or training.best is None:
            return _failed("diverged", classes)
        training.model.load_state_dict(training.best.weights)
    except (TunerError, RuntimeError, ValueError, IndexError, TypeError, KeyError) as error:
        return _failed(f"raised: {str(error).strip().splitlines()[-1]}", classes)
    best = next(row for row in training.curve if row["split"] == "val" and row["epoch"] == training.best.epoch)
    found = {
        "reported": best.get(setup.data.task.score, best.get("accuracy", math.nan)),
        "reported_loss": best["loss"],
        "classes": float(classes),
    }
    model, batch = training.model.eval(), evaluation_batch(setup)
    task = setup.data.task.name

    def of(batches: Any) -> dict[str, float]:
        return scores_of(task, *_outputs(model, batches, task))

    found |= of(setup.data.batches("val", batch))
    some = setup.data.batches("val", 1, indices=torch.arange(min(ALONE, setup.data.size("val"))))
    together = setup.data.batches("val", batch, indices=some.indices)
    found["alone"] = found["accuracy"]
    if found["accuracy"] == found["accuracy"]:
        found["alone"] += of(some)["accuracy"] - of(together)["accuracy"]
    if not twin and (clean := _clean(case, folder / "twin", seed, setup.data, model)) is not None:
        found["clean_accuracy"] = clean
    return found


def _spec(recipe: Recipe, seed: int) -> TrialSpec:
    """Return one trial of fine; a key with a range of its own in the search is set to the middle of it."""
    overrides = {key: _middle(domain) for key, domain in recipe.search.items() if domain != "auto"}
    settings = stages.load("fine").Settings(**recipe.stages.get("fine", {}))
    base = recipe.tables()
    precision = "fp32" if recipe.train.precision == "auto" else recipe.train.precision
    tables = apply_overrides(base, overrides)
    return TrialSpec(tables, overrides, seed, horizon_epochs=settings.epochs, precision=precision)


def _middle(domain: Mapping[str, Any]) -> Any:
    if "choices" in domain:
        return domain["choices"][len(domain["choices"]) // 2]
    low, high = domain["low"], domain["high"]
    return math.sqrt(low * high) if domain.get("log") else (low + high) / 2


def _failed(why: str, classes: int) -> dict[str, float | str]:
    return {"failed": why, "accuracy": 1 / classes, "balanced_accuracy": 1 / classes, "nll": math.log(classes)}


@torch.no_grad()
def _outputs(model: nn.Module, batches: Any, task: str) -> tuple[Any, Tensor]:
    return joined([(_scores(model(inputs), task), targets) for inputs, targets in batches])


def _scores(outputs: Any, task: str) -> Any:
    """Return what is scored: of a dictionary its logits, of a tuple the first, two columns of a single class score."""
    return as_columns(as_float(scored_part(outputs)), task)


def _clean(case: Case, folder: Path, seed: int, own: Data, model: nn.Module) -> float | None:
    """Return the accuracy on the healthy twin's val split, None where its examples have another form."""
    path = write_folder(case, folder, healthy_twin=True)
    recipe = load_recipe(path, seed=seed, settings=stages.settings_models())
    registry.forget_user_modules()
    data = make_setup(_spec(recipe, seed), TrialEnv(folder.resolve())).data
    same_form = data.inputs("val", [0]).dtype == own.inputs("val", [0]).dtype
    if data.input_shape != own.input_shape or not same_form or data.num_classes != own.num_classes:
        return None
    kept = []
    with torch.no_grad():
        for start in range(0, data.size("val"), 64):
            inside = torch.arange(start, min(start + 64, data.size("val")))
            outputs = _scores(model(own.normalise(data.inputs("val", inside))), own.task.name)
            kept.append((outputs, data.targets("val")[inside]))
    return scores_of(own.task.name, *joined(kept))["accuracy"]
