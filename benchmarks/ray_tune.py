"""(b) The same plain loop under Ray Tune, two trials at once."""

from __future__ import annotations

import logging
import os
import tempfile

from benchmarks.task import Clock, Outcome, Task, serve

AT_ONCE = 2


def side(task: Task) -> Outcome:
    clock = Clock()
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    import ray
    from ray import tune

    from benchmarks import plain

    ray.init(num_cpus=AT_ONCE, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    apart = {"start-up": clock()}
    # a core per trial: a loader worker beside it has to share that core, so try with none and with one
    workers = 0 if task.kind == "digits" else plain.best_workers(task, (0, 1))[0]
    apart["finding the number of loader workers"] = clock()

    def trainable(config: dict[str, float]) -> None:
        def report(epoch: int, accuracy: float) -> None:
            tune.report({"accuracy": accuracy, "epoch": epoch})

        plain.train(task, config["lr"], workers, task.epochs, report)

    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"lr": tune.grid_search(task.rates)},
        tune_config=tune.TuneConfig(metric="accuracy", mode="max", max_concurrent_trials=AT_ONCE),
        run_config=tune.RunConfig(storage_path=tempfile.mkdtemp(dir=task.work), verbose=0),
    )
    clock()
    results = tuner.fit()
    seconds = clock()
    count = len(plain.loaders(task, 0)[0].dataset)
    best = max(float(result.metrics_dataframe["accuracy"].max()) for result in results)
    ray.shutdown()
    note = f"{workers} loader workers, {AT_ONCE} trials at once"
    return Outcome(seconds, count * task.epochs * task.trials, best, apart, note)


if __name__ == "__main__":
    serve(side)
