"""One search of the part `search`: tuner's coarse and fine, or Optuna's TPE with hyperband, on the same trial engine.

What a search costs is the epochs of all its trials together, those of finalists with new seeds included.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

from benchmarks.drive import Run, Trace, one, runner_in, test_accuracy, try_out
from benchmarks.task import answer
from tuner import stages
from tuner.core.result import Record, last_of_each
from tuner.core.trial import WorkItem
from tuner.recipe.model import Recipe
from tuner.recipe.space import space_of
from tuner.search import scores
from tuner.search.samplers import distribution
from tuner.workflow.executor_pool import StageRunner

POOR = 0.0  # what a trial that diverged is told to be worth


def side(asked: dict[str, Any]) -> dict[str, Any]:
    """Carry out a search on one worker; return its trace, its best val accuracy and its winner's test accuracy."""
    recipe = Recipe.model_validate(asked["recipe"])
    runner = runner_in(Path(asked["work"]), 1)
    folder = Path(tempfile.mkdtemp(dir=asked["work"]))
    try_out(runner, recipe)
    trace = Trace()
    if asked["side"] == "tuner":
        found = ours(runner, recipe, folder, asked["coarse"], asked["fine"], trace)
    else:
        found = optunas(runner, recipe, folder, asked["fine"]["epochs"], asked["epochs"], trace)
    runner.executor.close()
    return {**found, "epochs": trace.epochs, "points": trace.points}


def ours(runner: StageRunner, recipe: Recipe, folder: Path, coarse: Any, fine: Any, trace: Trace) -> dict[str, Any]:
    run = Run(recipe, runner, folder)
    run.stage("coarse", coarse, trace.hear)
    found = run.stage("fine", fine, trace.hear)
    winner = next(r for r in run.records["fine"] if r.result.id == found.choice["trial"])
    trials = [record for records in run.records.values() for record in last_of_each(records)]
    accuracies = [scores.val_accuracy(record) or 0.0 for record in trials]
    return {"best": max(accuracies), "test": run.test_accuracy("fine", winner), "trials": len(accuracies)}


def optunas(
    runner: StageRunner, recipe: Recipe, folder: Path, horizon: int, budget: int, trace: Trace
) -> dict[str, Any]:
    """Ask for trials until the budget of epochs is spent; the last one is carried out to its end."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=horizon)
    sampler = optuna.samplers.TPESampler(seed=recipe.seed)
    name = f"search-{recipe.seed}"  # hyperband's brackets follow from it
    study = optuna.create_study(study_name=name, direction="maximize", sampler=sampler, pruner=pruner)
    space = space_of(recipe.search)
    spaces = {dimension.key: distribution(dimension) for dimension in space.dimensions}
    own = {key: recipe.value(key) for key in space.keys}
    study.enqueue_trial(own)
    runner = runner.at(folder / "optuna")
    records: dict[int, Record] = {}
    while trace.epochs < budget:
        trial = study.ask(spaces)
        state, value = optuna.trial.TrialState.COMPLETE, POOR
        for epoch in range(1, horizon + 1):
            spec = stages.Inputs().spec(recipe, dict(trial.params), horizon_epochs=horizon, train_subset=False)
            item = WorkItem(spec, trial.number, None if epoch == horizon else epoch)
            record = Record(item, one(runner, item))
            trace.hear(record)
            if record.result.status == "diverged":
                value = POOR
                break
            records[trial.number] = record
            value = record.result.score or POOR
            trial.report(record.rows("val")[-1]["accuracy"], epoch)
            if epoch < horizon and trial.should_prune():
                state = optuna.trial.TrialState.PRUNED
                break
        study.tell(trial, None if state == optuna.trial.TrialState.PRUNED else value, state)
    winner = records[study.best_trial.number]
    checkpoint = f"optuna/checkpoints/{winner.result.id}.pt"
    test = test_accuracy(runner, recipe, folder, checkpoint, winner)
    return {"best": study.best_value, "test": test, "trials": len(study.trials)}


if __name__ == "__main__":
    answer(side)
