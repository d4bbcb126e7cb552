"""(d) tuner's coarse stage with its own halving, on the same space and from the same first configuration."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import ours
from benchmarks.drive import Run, Trace, precision_of, runner_in, try_out
from benchmarks.pruned import OWN, SPACE
from benchmarks.task import Clock, Task, answer
from tuner.recipe.model import Recipe


def side(asked: dict[str, Any]) -> dict[str, Any]:
    clock = Clock()
    task, workers = Task(**asked["task"]), len(os.sched_getaffinity(0))
    runner = runner_in(Path(task.work), workers)
    recipe = recipe_of(task, asked["seed"])
    apart = {"start-up of the supervisor": clock()}
    try_out(runner, recipe)
    apart["start-up of a worker, decoding where it is the first time"] = clock()
    run = Run(recipe, runner, Path(tempfile.mkdtemp(dir=task.work)), precision_of(runner, recipe))
    apart["asking the hardware"] = clock()
    trace = Trace()
    run.stage("coarse", {"trials": task.trials, "epochs": task.epochs}, trace.hear)
    seconds = clock()
    runner.executor.close()
    return {
        "seconds": seconds,
        "points": trace.points,
        "epochs": trace.epochs,
        "best": max(point[2] for point in trace.points),
        "apart": apart,
        "note": f"{workers} workers, {run.precision}",
    }


def recipe_of(task: Task, seed: int) -> Recipe:
    """Make the recipe of the comparison: the space, and its middle as the recipe's own values."""
    tables = ours.recipe(task).tables()
    tables["optimizer"] |= {key.partition(".")[2]: value for key, value in OWN.items()}
    space = {key: {"low": low, "high": high, "log": True} for key, (low, high) in SPACE.items()}
    return Recipe.model_validate({"name": "benchmark", "seed": seed, **tables, "search": space})


if __name__ == "__main__":
    answer(side)
