"""Does a winner's 95 % interval hold its accuracy on untouched data? Many small searches on a task made for it.

Each repeat draws its own examples of one mixture of Gaussians: few to train on, a val split so small that it pays to be
the best by luck, and a large untouched one. Beside fine's interval stands the naive claim: the best val accuracy of all
trials, of coarse and fine, with its own Wilson interval.
"""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.drive import Run, runner_in
from benchmarks.part import Asked
from tuner.core.result import Record, last_of_each
from tuner.core.statistics import wilson
from tuner.recipe.model import Recipe
from tuner.search import scores
from tuner.workflow.executor_pool import StageRunner

CLASSES, BLOBS, FEATURES = 4, 3, 8  # each class is a few blobs, so that a linear model is not enough
NOISE = 1.0  # of an example around its blob; the blobs' centres have 1 as well
SPACE = {
    "optimizer.lr": {"low": 1e-3, "high": 1.0, "log": True},
    "optimizer.weight_decay": {"low": 1e-6, "high": 1e-1, "log": True},
    "model.width": {"choices": [16, 32, 64]},
    "model.dropout": {"low": 0.0, "high": 0.5},
}
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Sizes:
    repeats: int = 40
    train: int = 400
    val: int = 300
    test: int = 4_000
    coarse_trials: int = 16
    coarse_epochs: int = 3
    fine_trials: int = 8
    fine_epochs: int = 8


def measure(asked: Asked, sizes: Sizes) -> dict[str, Any]:
    work = asked.work / "coverage"
    work.mkdir(exist_ok=True)
    runner = runner_in(work, len(os.sched_getaffinity(0)))
    of = {key: value for key, value in asdict(sizes).items() if key != "repeats"}
    searches = []
    for seed in range(sizes.repeats):
        one = {"part": "coverage", **of, "seed": seed}
        searches.append(asked.lines.once(one, lambda s=seed: search(runner, work / str(s), sizes, s)))
        shutil.rmtree(work / str(seed), ignore_errors=True)
        if (seed + 1) % 5 == 0:
            asked.say(f"coverage: {seed + 1} of {sizes.repeats} searches")
    runner.executor.close()
    return {"sizes": asdict(sizes), "searches": searches}


def search(runner: StageRunner, folder: Path, sizes: Sizes, seed: int) -> dict[str, Any]:
    """Search once; return what was claimed of the winner, and what untouched data say."""
    folder.mkdir()
    recipe = Recipe.model_validate(
        {
            "name": "coverage",
            "seed": 1000 * seed,
            "data": {"source": "npz", "path": str(write_data(folder, sizes, seed)), "normalize": "standardize"},
            "model": {"name": "mlp", "width": 32, "depth": 2, "dropout": 0.1},
            "optimizer": {"name": "sgd", "lr": 0.03, "momentum": 0.9, "weight_decay": 1e-4},
            "schedule": {"name": "cosine"},
            "train": {"batch_size": 32},
            "search": SPACE,
        }
    )
    run = Run(recipe, runner, folder)
    run.stage("coarse", {"trials": sizes.coarse_trials, "epochs": sizes.coarse_epochs})
    metrics = run.stage("fine", {"trials": sizes.fine_trials, "epochs": sizes.fine_epochs}).to_json()["metrics"]
    winner = next(entry for entry in metrics["finalists"] if entry["trial"] == metrics["trial"])
    records = {record.result.id: record for record in run.records["fine"]}
    tests = {trial: run.test_accuracy("fine", records[trial]) for trial in winner["trials"]}
    stage, best = luckiest(run.records)
    naive = scores.val_accuracy(best) or 0.0
    return {
        "numbers": {key: value for key, value in metrics.items() if isinstance(value, (int, float))},
        "intervals": {key: value for key, value in metrics.items() if key.endswith("interval") and value},
        "test": tests[metrics["trial"]],
        "test_mean": statistics.fmean(tests.values()),
        "naive": naive,
        "naive_interval": wilson(naive, sizes.val),
        "naive_test": run.test_accuracy(stage, best),
    }


def luckiest(records: Mapping[str, Sequence[Record]]) -> tuple[str, Record]:
    """Return the trial with the best val accuracy of all stages, and its stage."""
    best = [(stage, scores.scored(last_of_each(found))[0]) for stage, found in records.items()]
    return max(best, key=lambda pair: scores.val_accuracy(pair[1]) or 0.0)


def write_data(folder: Path, sizes: Sizes, seed: int) -> Path:
    """Draw the examples of a repeat; the mixture itself is the same in all of them."""
    import numpy as np

    centres = np.random.default_rng(0).normal(size=(CLASSES, BLOBS, FEATURES))
    draws = np.random.default_rng([1, seed])
    arrays = {}
    for split in SPLITS:
        count = getattr(sizes, split)
        y = draws.integers(CLASSES, size=count)
        x = centres[y, draws.integers(BLOBS, size=count)] + NOISE * draws.normal(size=(count, FEATURES))
        arrays |= {f"x_{split}": x.astype(np.float32), f"y_{split}": y}
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def section(found: Mapping[str, Any]) -> list[str]:
    """Return the lines of the page."""
    sizes, searches = found["sizes"], found["searches"]
    lines = [
        f"## Coverage: {len(searches)} searches ({sizes['coarse_trials']} x {sizes['coarse_epochs']} and "
        f"{sizes['fine_trials']} x {sizes['fine_epochs']} epochs), val {sizes['val']}, untouched {sizes['test']}",
        "",
        "| claim | holds the accuracy of | searches | in its 95 % interval | width | middle minus accuracy |",
        "|---|---|---|---|---|---|",
    ]
    for key in sorted({key for one in searches for key in one["intervals"]}):
        for what, name in (("test", "the winner's weights"), ("test_mean", "the winner, mean over its seeds")):
            pairs = [(one["intervals"][key], one[what]) for one in searches if key in one["intervals"]]
            lines.append(row(f"fine's `{key}`", name, pairs))
    naive = [(one["naive_interval"], one["naive_test"]) for one in searches]
    lines.append(row("best val accuracy of all trials, Wilson", "that trial's weights", naive))
    optimism = [one["naive"] - one["naive_test"] for one in searches]
    mean = [one["numbers"]["mean"] - one["test_mean"] for one in searches]
    return [
        *lines,
        "",
        f"- the best val accuracy of all trials overstates itself by {statistics.fmean(optimism):+.4f}, fine's `mean` "
        f"over seeds by {statistics.fmean(mean):+.4f} (means over the searches)",
    ]


def row(claim: str, of: str, pairs: Sequence[tuple[Sequence[float], float]]) -> str:
    """Return a row: how often an interval holds the accuracy, with the Wilson interval of that share."""
    inside = sum(low <= accuracy <= high for (low, high), accuracy in pairs)
    low, high = wilson(inside / len(pairs), len(pairs))
    width = statistics.fmean(high - low for (low, high), _ in pairs)
    off = statistics.fmean((low + high) / 2 - accuracy for (low, high), accuracy in pairs)
    share = f"{inside} of {len(pairs)}: {inside / len(pairs):.1%} ({low:.0%} to {high:.0%})"
    return f"| {claim} | {of} | {len(pairs)} | {share} | {width:.3f} | {off:+.4f} |"
