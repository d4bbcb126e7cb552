"""(d) tuner: the same trials through its process executor, as `tuner coarse` runs them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.drive import precision_of, runner_in, try_out
from benchmarks.task import BATCH, WIDTHS, Clock, Outcome, Task, serve
from tuner.core.trial import TABLES, TrialSpec, WorkItem, apply_overrides
from tuner.recipe.model import Recipe

IMAGES = {"source": "image_folder", "image_size": 32, "augment": ["hflip", {"name": "random_crop", "padding": 4}]}
DATA = {"cifar10": IMAGES, "digits": {"source": "digits"}}
MODEL = {"cifar10": {"name": "convnet", "widths": list(WIDTHS)}, "digits": {"name": "mlp", "width": 128, "depth": 2}}


def side(task: Task, stack: int | None = None) -> Outcome:
    clock = Clock()
    asked = recipe(task)
    tables = asked.tables()
    workers = len(os.sched_getaffinity(0))
    runner = runner_in(Path(task.work), workers, stack)
    runner = runner.at(Path(tempfile.mkdtemp(dir=task.work)))  # no repeat's checkpoints
    apart = {"start-up of the supervisor": clock()}
    count = try_out(runner, asked)["train"]
    apart["start-up of a worker, decoding where it is the first time"] = clock()
    precision = precision_of(runner, asked)
    items = [WorkItem(trial(tables, lr, task, precision), number) for number, lr in enumerate(task.rates)]
    apart["asking the hardware"] = clock()
    results = list(runner.run(items))
    seconds = clock()
    runner.executor.close()
    assert all(result.status in ("completed", "diverged") for result in results), [result.error for result in results]
    best = max(result.score for result in results if result.score is not None)
    return Outcome(seconds, count * task.epochs * task.trials, best, apart, f"{workers} workers, {precision}")


def recipe(task: Task) -> Recipe:
    """Make the recipe of the comparison."""
    data: dict[str, Any] = dict(DATA[task.kind])
    if task.kind == "cifar10":
        data["root"] = task.folder
    else:
        data |= {"val_fraction": 0.2, "test_fraction": 0.2}
    tables = {"data": data, "model": MODEL[task.kind], "optimizer": {"name": "sgd", "momentum": 0.9}}
    return Recipe.model_validate({"name": "benchmark", **tables, "train": {"batch_size": BATCH}})


def trial(tables: dict[str, Any], lr: float, task: Task, precision: str) -> TrialSpec:
    changed = apply_overrides({name: tables[name] for name in TABLES}, {"optimizer.lr": lr})
    fields = {"horizon_epochs": task.epochs, "precision": precision, "train_subset": False}
    return TrialSpec(changed, {"optimizer.lr": lr}, 0, **fields)


if __name__ == "__main__":
    serve(side)
