"""tuner's stages, driven through their contract (plan, judge) and its process executor, without the files of a run.

What the sweep of rates would have settled is given instead, so that both sides of a comparison start from the same
space and the same first configuration.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.replay import carry_out
from tuner import stages
from tuner.core.metrics import LrSweepMetrics
from tuner.core.result import Record, StageResult, TrialResult, last_of_each
from tuner.core.trial import TrialEnv, WorkItem
from tuner.execute.processes import ProcessExecutor
from tuner.execute.slots import Wish
from tuner.recipe.model import Recipe
from tuner.search.precision import candidate
from tuner.workflow.executor_pool import StageRunner

Hear = Callable[[Record], None]


def runner_in(folder: Path, workers: int, stack: int | None = None) -> StageRunner:
    """Start nothing yet; decoded data are kept in the folder too. `stack`: as `--stack`."""
    env = TrialEnv(folder, folder / "stage", "cpu", folder / "cache")
    return StageRunner(ProcessExecutor(Wish(workers=workers, stack=stack), lambda progress: None), env)


def try_out(runner: StageRunner, recipe: Recipe) -> dict[str, Any]:
    """Start a worker and have it try the recipe out, which decodes the data; return what it says of them."""
    answer = runner.executor.preflight({**recipe.tables(), "search": dict(recipe.search)}, runner.env)
    if answer.problems:
        raise SystemExit(f"the benchmark's recipe does not work: {answer['problems']}")
    return answer.summary


def precision_of(runner: StageRunner, recipe: Recipe) -> str:
    """Ask the hardware which precision pays, as lr-sweep does."""
    item = WorkItem(stages.Inputs().spec(recipe, measure={"hardware": {}}), 0)
    return candidate(one(runner, item).evidence["hardware"], "cpu")[0] or "fp32"


def one(runner: StageRunner, item: WorkItem) -> TrialResult:
    """Run one item.

    Raises:
        SystemExit: it failed.
    """
    return checked(next(iter(runner.run([item]))))


def checked(result: TrialResult) -> TrialResult:
    """Return a result that is none of a failed trial.

    Raises:
        SystemExit: it is.
    """
    if result.error is not None:
        raise SystemExit(f"a trial of the benchmark failed: {result.error.message}")
    return result


@dataclass
class Run:
    """The stages of one search, as far as they are done. `folder`: where their checkpoints go."""

    recipe: Recipe
    runner: StageRunner
    folder: Path
    precision: str = "fp32"
    results: dict[str, StageResult[Any]] = field(default_factory=dict)
    records: dict[str, list[Record]] = field(default_factory=dict)

    def inputs(self) -> stages.Inputs:
        sweep = StageResult("lr-sweep", "", LrSweepMetrics(), choice={"precision": self.precision})
        trials = {name: last_of_each(records) for name, records in self.records.items()}
        return stages.Inputs({"lr-sweep": sweep, **self.results}, trials)

    def stage(self, name: str, settings: Any, hear: Hear = lambda record: None) -> StageResult[Any]:
        """Plan and run generation after generation, then judge; return its result."""
        module, inputs = stages.load(name), self.inputs()
        chosen = module.Settings(**settings)
        self.runner = self.runner.at(self.folder / name)

        def sound(record: Record) -> None:
            checked(record.result)
            hear(record)

        self.records[name] = carry_out(module, self.recipe, inputs, chosen, self.runner, sound)
        self.results[name] = module.judge(self.recipe, inputs, chosen, self.records[name])
        return self.results[name]

    def test_accuracy(self, name: str, record: Record) -> float:
        """Return the accuracy on the test split of the weights that a trial of a stage has kept."""
        return test_accuracy(self.runner, self.recipe, self.folder, f"{name}/checkpoints/{record.result.id}.pt", record)


def test_accuracy(runner: StageRunner, recipe: Recipe, folder: Path, checkpoint: str, record: Record) -> float:
    runner = runner.at(folder / "test")
    spec = stages.Inputs().spec(recipe, record.params, measure={"test_evaluation": {"checkpoint": checkpoint}})
    return one(runner, WorkItem(spec, 0)).evidence["test_evaluation"]["accuracy"]


@dataclass
class Trace:
    """How good the best trial was so far: after how many seconds, and after how many epochs of all trials together."""

    started: float = field(default_factory=time.perf_counter)
    points: list[tuple[float, int, float]] = field(default_factory=list)
    epochs: int = 0
    _reached: dict[str, int] = field(default_factory=dict)

    def hear(self, record: Record) -> None:
        """Take in a trial, or a rung of one: each of its epochs that is new."""
        seconds = time.perf_counter() - self.started
        before = self._reached.get(record.result.id, 0)
        for row in sorted(record.rows("val"), key=lambda row: row["epoch"]):
            if row["epoch"] > before:
                self.epochs += 1
                self.points.append((round(seconds, 3), self.epochs, row["accuracy"]))
                self._reached[record.result.id] = row["epoch"]


def reached(points: Sequence[Sequence[float]], target: float, column: int) -> float | None:
    """Return what a trace had cost (column 0: seconds, 1: epochs) when it came to the target; None: it never did."""
    return next((point[column] for point in points if point[-1] >= target), None)
