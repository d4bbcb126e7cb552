"""lr-sweep's race of rates against brute force, and against every rate with every seed, on ten settings.

Of each setting all rates of the grid are run once, in full: a hundred iterations with three seeds, and five epochs with
two. The race and the full sweep are then played from these runs, so that they differ in nothing but in what they ask.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import equal_data
from benchmarks.drive import runner_in, try_out
from benchmarks.part import Asked
from benchmarks.task import answer, ask
from tuner import stages
from tuner.core.result import Record, TrialResult
from tuner.core.trial import TrialSpec, WorkItem
from tuner.recipe.model import Recipe
from tuner.search.band import CONSTANT, Band, decades, find_band, on_grid
from tuner.search.band import measure as measured
from tuner.search.race import SHORT, Question, drop_at, extension, refinement
from tuner.stages.lr_sweep import Settings

SIDE = "benchmarks.sweep"
LOW, PLACES = 1e-4, range(-6, 11)  # half-decades from 1e-7 to 10
SEEDS, STEPS, EPOCHS, TRAINED = 3, 100, 5, 2
MOMENTUM = {"name": "sgd", "lr": 0.01, "momentum": 0.9}
SETTINGS: dict[str, dict[str, Any]] = {
    "digits, conv net, SGD": {"model": {"name": "convnet", "width": 16, "depth": 2}, "optimizer": MOMENTUM},
    "digits, mlp, SGD without momentum": {"model": {"name": "mlp", "width": 64}, "optimizer": {"name": "sgd"}},
    "digits, mlp, Adam": {"model": {"name": "mlp", "width": 64}, "optimizer": {"name": "adam"}},
    "digits, sigmoid mlp, SGD": {
        "model": {"name": "mlp", "width": 64, "activation": "sigmoid"},
        "optimizer": MOMENTUM,
    },
    "letters, mlp, SGD": {"model": {"name": "mlp", "width": 128}, "optimizer": MOMENTUM},
    "letters, deep mlp, AdamW, batch 256": {
        "model": {"name": "mlp", "width": 128, "depth": 3},
        "optimizer": {"name": "adamw"},
        "train": {"batch_size": 256},
    },
    "fashion, conv net, SGD": {"model": {"name": "convnet", "width": 8}, "optimizer": MOMENTUM},
    "fashion, conv net without batch norm, SGD": {
        "model": {"name": "convnet", "width": 8, "batch_norm": False},
        "optimizer": MOMENTUM,
    },
    "fashion, mlp with dropout, Adam": {
        "model": {"name": "mlp", "width": 64, "dropout": 0.3},
        "optimizer": {"name": "adam"},
    },
    "cifar10, conv net, SGD, weight decay 5e-3": {
        "model": {"name": "convnet", "width": 8},
        "optimizer": {**MOMENTUM, "weight_decay": 5e-3},
    },
}


@dataclass(frozen=True)
class Sizes:
    settings: int = len(SETTINGS)  # the first so many


def measure(asked: Asked, sizes: Sizes) -> dict[str, Any]:
    """Run all rates of each setting; play both ways of asking from them."""
    work = asked.work / "sweep"
    work.mkdir(exist_ok=True)
    found: dict[str, Any] = {"sizes": asdict(sizes), "settings": {}}
    for name in list(SETTINGS)[: sizes.settings]:
        kind = name.partition(",")[0]
        if path := equal_data.lacking(kind):
            asked.say(f"sweep: {name} skipped, there is no {path}")
            continue
        given = {"tables": SETTINGS[name], "data": str(equal_data.make(kind, work, 0)), "work": str(work)}
        runs = asked.lines.once({"part": "sweep", "name": name}, lambda g=given: ask(SIDE, g))
        found["settings"][name] = {way: played(runs, way) for way in WAYS}
        asked.say(f"sweep: {name}: {found['settings'][name]}")
    return found


def side(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Run every rate of a setting; return {lr, seed, steps, status, losses, score} of each run."""
    tables = {"data": {"source": "npz", "path": asked["data"], "normalize": "none"}, **asked["tables"]}
    recipe = Recipe.model_validate({"name": "sweep", **tables, "schedule": {"name": "cosine"}})
    runner = runner_in(Path(asked["work"]), len(os.sched_getaffinity(0)))
    try_out(runner, recipe)
    items: list[WorkItem] = []
    for lr in [on_grid(LOW, place) for place in PLACES]:
        for seed in range(SEEDS):
            spec = stages.Inputs().spec(recipe, {"optimizer.lr": lr}, seed=seed, horizon_steps=STEPS)
            items.append(WorkItem(replace(spec, tables={**spec.tables, "schedule": dict(CONSTANT)}), len(items)))
        for seed in range(TRAINED):
            fields = {"horizon_epochs": EPOCHS, "train_subset": False}
            items.append(WorkItem(stages.Inputs().spec(recipe, {"optimizer.lr": lr}, seed=seed, **fields), len(items)))
    by_key = {item.key: item.spec for item in items}
    runs = [_run(by_key[result.id, result.until_epoch], result) for result in runner.run(items)]
    runner.executor.close()
    return runs


def _run(spec: TrialSpec, result: TrialResult) -> dict[str, Any]:
    losses = [row["loss"] if math.isfinite(row["loss"]) else None for row in result.curve if row["split"] == "train"]
    of = {"lr": spec.tables["optimizer"]["lr"], "seed": spec.seed, "steps": spec.horizon_steps}
    return {**of, "status": result.status, "losses": losses, "score": result.score}


Answer = Callable[[Question], Record]


def race(answer: Answer) -> list[Question]:
    """Ask as lr-sweep does."""
    return [question for questions in Settings().race(1).rounds(answer) for question in questions]


def in_full(answer: Answer) -> list[Question]:
    """Ask for every rate with every seed, in full."""
    settings, asked = Settings(), []
    bounds = (settings.low, settings.floor, settings.ceiling)
    new: Sequence[float] = decades(settings.low, settings.high)
    while new:
        asked += [Question(lr, seed, settings.steps) for lr in new for seed in range(settings.seeds)]
        rates = measured([answer(question) for question in asked])
        decade = extension(rates, *bounds)
        new = [decade] if decade is not None else refinement(rates, *bounds)
    return asked


WAYS: dict[str, Callable[[Answer], list[Question]]] = {"full": in_full, "race": race}


def played(runs: Sequence[Mapping[str, Any]], way: str) -> dict[str, Any]:
    """Play a way of asking: iterations, the rate to use, and what it loses against the best rate by brute force."""
    swept = {(run["lr"], run["seed"]): run for run in runs if run["steps"]}

    def answer(question: Question) -> Record:
        run = swept[question.lr, question.seed]
        losses = [math.nan if loss is None else loss for loss in run["losses"][: question.steps]]
        spec = TrialSpec({"optimizer": {"lr": question.lr}}, {}, question.seed, horizon_steps=question.steps)
        whole = _recorded(spec, losses, question.steps)
        drop = drop_at(whole, SHORT)
        if question.least is None or drop is None or drop >= question.least:
            return whole
        return _recorded(spec, losses[:SHORT], SHORT, "stopped")

    asked = WAYS[way](answer)
    records = [answer(question) for question in asked]
    band: Band = find_band(measured(records))
    scores: dict[float, list[float]] = {}
    for run in runs:
        if not run["steps"]:
            scores.setdefault(run["lr"], []).append(run["score"] or 0.0)
    means = {lr: statistics.fmean(values) for lr, values in scores.items()}
    best = max(means, key=lambda lr: means[lr])
    lr = band.lr or min(means)
    lost = means[best] - _between(means, lr)
    iterations = sum(len(record.result.curve) for record in records)
    return {"iterations": iterations, "lr": lr, "best": best, "off": max(lr / best, best / lr), "lost": lost}


def _recorded(spec: TrialSpec, losses: Sequence[float], steps: int, status: Any = "completed") -> Record:
    rows = [{"step": i + 1, "epoch": 1, "split": "train", "loss": loss} for i, loss in enumerate(losses)]
    finite = all(map(math.isfinite, losses)) and len(losses) == steps
    return Record(WorkItem(spec, 0), TrialResult("", None, status if finite else "diverged", rows))


def _between(means: Mapping[float, float], lr: float) -> float:
    """Return the accuracy at a rate, in a straight line over its logarithm between those that were trained."""
    low, high = max(x for x in means if x <= lr * 1.001), min(x for x in means if x >= lr * 0.999)
    share = 0.0 if low == high else math.log(lr / low) / math.log(high / low)
    return means[low] * (1 - share) + means[high] * share


def section(found: Mapping[str, Any]) -> list[str]:
    """Return the lines of the page."""
    lines = [
        f"## lr-sweep against brute force ({EPOCHS} epochs at every half-decade, {TRAINED} seeds)",
        "",
        "| setting | best rate | full sweep: iterations | lr | points lost | race: iterations | lr | points lost |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = found["settings"]
    for name, ways in rows.items():
        cells = [f"{ways['full']['best']:g}"]
        for way in WAYS:
            one = ways[way]
            cells += [str(one["iterations"]), f"{one['lr']:.2g}", f"{100 * one['lost']:.1f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append("")
    for way in WAYS:
        ones = [ways[way] for ways in rows.values()]
        lost = [100 * one["lost"] for one in ones]
        near = sum(one["off"] < 3.4 for one in ones)
        lines.append(
            f"- {way}: {statistics.fmean(one['iterations'] for one in ones):.0f} iterations in the mean; within 3x of "
            f"the best rate {near} of {len(ones)} times; {statistics.median(lost):.1f} points lost in the median, "
            f"{max(lost):.1f} at worst"
        )
    return lines


if __name__ == "__main__":
    answer(side)
