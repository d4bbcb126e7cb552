"""(a), (c) What a user writes: Optuna around a plain loop on tensors in memory, until the seconds are over.

(a): TPE with successive halving, in one process with all cores or in one process per core, which share the study
through a journal file. (c): random search, every trial to its end, one process per core. What counts is the best epoch
of all trials on val, whose weights are kept and evaluated on the test split at the end.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import tempfile
import time
import warnings
from typing import Any

from benchmarks.equal_space import CHOICES, MODELS, OWN, RANGES
from benchmarks.task import BATCH, answer

EPOCHS = 20  # of a trial that is not pruned, what its cosine ends at
WAYS = {"a1": 1, "a2": None, "c": None}  # processes; None: one per core


def side(asked: dict[str, Any]) -> dict[str, Any]:
    """Search until `asked["ends_at"]` (seconds since 1970); return what the winner promises and what it gives."""
    cores = len(os.sched_getaffinity(0))
    processes = WAYS[asked["side"]] or cores
    journal = tempfile.mkstemp(suffix=".log", dir=asked["work"])[1]
    given = [({**asked, "threads": cores // processes, "index": i, "journal": journal},) for i in range(processes)]
    if processes == 1:
        found = [search(*given[0])]
    else:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            found = pool.starmap(search, given)
    best = max(found, key=lambda one: one["val"])
    return {**best, "trials": sum(one["trials"] for one in found), "epochs": sum(one["epochs"] for one in found)}


def search(asked: dict[str, Any]) -> dict[str, Any]:
    """Carry out this process's share of the study."""
    import numpy as np
    import optuna
    import torch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(asked["threads"])
    with np.load(asked["data"]) as archive:
        data = {name: torch.from_numpy(archive[name]) for name in archive.files}
    seed = 1000 * asked["seed"] + asked["index"]
    random = asked["side"] == "c"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        usual = optuna.samplers.TPESampler(seed=seed, constant_liar=asked["side"] == "a2")
    study = optuna.create_study(
        study_name="equal",
        storage=optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(asked["journal"])),
        direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=seed) if random else usual,
        pruner=optuna.pruners.NopPruner() if random else optuna.pruners.SuccessiveHalvingPruner(min_resource=1),
        load_if_exists=True,
    )
    if asked["index"] == 0:
        study.enqueue_trial(dict(OWN[asked["set"]]))
    best: dict[str, Any] = {"val": 0.0, "weights": None, "params": {}}
    counts = {"trials": 0, "epochs": 0}

    def objective(trial: optuna.Trial) -> float:
        params = suggested(trial, asked["set"])
        counts["trials"] += 1
        reached = 0.0
        for epoch, (accuracy, model) in enumerate(train(asked["set"], data, params, seed + 7919 * trial.number), 1):
            counts["epochs"] += 1
            reached = max(reached, accuracy)
            if accuracy > best["val"]:
                weights = {name: value.clone() for name, value in model.state_dict().items()}
                best.update(val=accuracy, weights=weights, params=params)
            if time.time() >= asked["ends_at"]:
                trial.study.stop()
                break
            trial.report(accuracy, epoch)
            if epoch < EPOCHS and trial.should_prune():
                raise optuna.TrialPruned
        return reached

    def over(study: optuna.Study, _: Any) -> None:  # Optuna's own timeout reads another clock than `idle_clock` keeps
        if time.time() >= asked["ends_at"]:
            study.stop()

    study.optimize(objective, callbacks=[over])
    model = build(asked["set"], data, best["params"] or OWN[asked["set"]])
    if best["weights"] is not None:
        model.load_state_dict(best["weights"])
    return {"val": best["val"], "test": accuracy_of(model, data, "test"), **counts}


def suggested(trial: Any, name: str) -> dict[str, Any]:
    ranges = {key: trial.suggest_float(key, low, high, log=log) for key, (low, high, log) in RANGES.items()}
    return {**ranges, **{key: trial.suggest_categorical(key, values) for key, values in CHOICES[name].items()}}


def build(name: str, data: dict[str, Any], params: dict[str, Any]) -> Any:
    from tuner.parts import models

    arguments = {key: value for key, value in MODELS[name].items() if key != "name"}
    arguments |= {key.partition(".")[2]: value for key, value in params.items() if key.startswith("model.")}
    classes = int(data["y_train"].max()) + 1
    return getattr(models, MODELS[name]["name"])(tuple(data["x_train"].shape[1:]), classes, **arguments)


def train(name: str, data: dict[str, Any], params: dict[str, Any], seed: int) -> Any:
    """Train a trial; yield (val accuracy, model) after each epoch."""
    import torch

    torch.manual_seed(seed)
    model = build(name, data, params)
    lr, decay, momentum = (params[f"optimizer.{key}"] for key in ("lr", "weight_decay", "momentum"))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=decay)
    x, y = data["x_train"], data["y_train"]
    steps = math.ceil(len(y) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * steps)
    for _ in range(EPOCHS):
        model.train()
        for at in torch.randperm(len(y)).split(BATCH):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[at]), y[at]).backward()
            optimizer.step()
            schedule.step()
        yield accuracy_of(model, data, "val"), model


def accuracy_of(model: Any, data: dict[str, Any], split: str) -> float:
    import torch

    model.eval()
    with torch.no_grad():
        pairs = zip(data[f"x_{split}"].split(256), data[f"y_{split}"].split(256), strict=True)
        hits = sum(int((model(x).argmax(1) == y).sum()) for x, y in pairs)
    return hits / len(data[f"y_{split}"])


if __name__ == "__main__":
    answer(side)
