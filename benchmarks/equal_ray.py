"""(b) of the part `equal_time`: Ray Tune's ASHA around the same plain loop, one trial per core, actors used again."""

from __future__ import annotations

import logging
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.equal_space import CHOICES, OWN, RANGES
from benchmarks.equal_usual import EPOCHS, accuracy_of, build, train
from benchmarks.task import answer

OBJECT_STORE = 512 << 20  # bytes: the data, and some room


def side(asked: dict[str, Any]) -> dict[str, Any]:
    """Search until `asked["ends_at"]` (seconds since 1970); return what the winner promises and what it gives."""
    os.environ |= {"RAY_AIR_NEW_OUTPUT": "0", "RAY_USAGE_STATS_ENABLED": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
    warnings.simplefilter("ignore")
    import numpy as np
    import ray
    import torch
    from ray import tune

    cores = len(os.sched_getaffinity(0))
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    ray.init("local", num_cpus=cores, object_store_memory=OBJECT_STORE, **quiet)
    with np.load(asked["data"]) as archive:
        data = {name: archive[name] for name in archive.files}
    work = Path(tempfile.mkdtemp(dir=asked["work"]))
    space: dict[str, Any] = {
        key: tune.loguniform(low, high) if log else tune.uniform(low, high) for key, (low, high, log) in RANGES.items()
    }
    space |= {key: tune.choice(values) for key, values in CHOICES[asked["set"]].items()}
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(trial, data=data, asked=asked, work=str(work)), {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="accuracy",
            mode="max",
            num_samples=-1,
            max_concurrent_trials=cores,
            time_budget_s=max(1.0, asked["ends_at"] - time.time()),
            reuse_actors=True,
            search_alg=tune.search.BasicVariantGenerator(
                points_to_evaluate=[dict(OWN[asked["set"]])], random_state=asked["seed"]
            ),
            scheduler=tune.schedulers.ASHAScheduler(max_t=EPOCHS, grace_period=1),
        ),
        run_config=tune.RunConfig(storage_path=str(work / "results"), verbose=0),
    )
    results = tuner.fit()
    ray.shutdown()
    kept = [torch.load(path, weights_only=True) for path in work.glob("*.pt")]
    tensors = {name: torch.from_numpy(values) for name, values in data.items()}
    best = max(kept, key=lambda one: one["val"], default={"val": 0.0, "params": OWN[asked["set"]]})  # none had an epoch
    model = build(asked["set"], tensors, best["params"])
    if "weights" in best:
        model.load_state_dict(best["weights"])
    epochs = [int((result.metrics or {}).get("training_iteration", 0)) for result in results]  # 0: it only waits
    counts = {"trials": sum(map(bool, epochs)), "epochs": sum(epochs)}
    return {"val": best["val"], "test": accuracy_of(model, tensors, "test"), **counts}


def trial(config: dict[str, Any], data: dict[str, Any], asked: dict[str, Any], work: str) -> None:
    """Train a configuration; the best weights of this process lie in a file of its own."""
    import torch
    from ray import tune

    torch.set_num_threads(1)
    tensors = {name: torch.from_numpy(values) for name, values in data.items()}
    path, best = Path(work, f"{os.getpid()}.pt"), -1.0
    if path.exists():
        best = torch.load(path, weights_only=True)["val"]
    seed = abs(hash(tune.get_context().get_trial_id())) % 2**31
    for accuracy, model in train(asked["set"], tensors, config, seed):
        if accuracy > best:
            best = accuracy
            torch.save({"val": accuracy, "params": dict(config), "weights": model.state_dict()}, path)
        tune.report({"accuracy": accuracy})
        if time.time() >= asked["ends_at"]:
            return


if __name__ == "__main__":
    answer(side)
