"""(a) What a user writes who prunes: Optuna's TPE and ASHA around the plain loop, in the way that is fastest here.

A way is a number of processes, which share the study through a journal file, and of loader workers in each.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.pruned import OWN, SPACE
from benchmarks.task import BATCH, Clock, Task, answer


def side(asked: dict[str, Any]) -> dict[str, Any]:
    """Find the fastest way where none is given, else carry out the study."""
    task = Task(**asked["task"])
    return study(task, asked["seed"], asked["way"]) if "way" in asked else find_way(task)


def find_way(task: Task) -> dict[str, Any]:
    """Train a trial of two epochs in each way; return the examples per second, and the way that has most."""
    cores = len(os.sched_getaffinity(0))
    rates = {}
    for processes, workers in [(1, 0), (1, 1), (1, cores), (cores, 0), (cores, 1)]:
        way = {"processes": processes, "workers": workers}
        seconds = together(time_trial, task, way, [()] * processes)[0]
        rates[words(way)] = (sum(BATCH / value for value in seconds), way)
    best = max(rates.values(), key=lambda pair: pair[0])[1]
    return {"way": best, "rates": {name: round(rate) for name, (rate, _) in rates.items()}}


def study(task: Task, seed: int, way: dict[str, int]) -> dict[str, Any]:
    """Carry out the study; return what `pruned` compares."""
    journal = tempfile.mkstemp(suffix=".log", dir=task.work)[1]
    tickets = multiprocessing.get_context("spawn").Value("i", task.trials)
    more = [(seed, index, journal, tickets) for index in range(way["processes"])]
    points, seconds, start_up = together(search, task, way, more)
    found = sorted(point for part in points for point in part)
    epochs, best, trace = 0, 0.0, []
    for at, accuracy in found:
        epochs, best = epochs + 1, max(best, accuracy)
        trace.append((at, epochs, accuracy))
    return {
        "seconds": seconds,
        "points": trace,
        "epochs": epochs,
        "best": best,
        "apart": {"start-up": start_up},
        "note": words(way),
    }


def together(
    function: Any, task: Task, way: dict[str, int], more: list[tuple[Any, ...]]
) -> tuple[list[Any], float, float]:
    """Call a function in processes that begin at the same moment; return what they give, and the seconds of both parts.

    The cores are shared out among the processes.
    """
    clock = Clock()
    context = multiprocessing.get_context("spawn")
    threads = max(1, len(os.sched_getaffinity(0)) // way["processes"])
    pipes, processes = [], []
    for arguments in more:
        ours, theirs = context.Pipe()
        processes.append(
            context.Process(target=begin, args=(function, task, way["workers"], threads, theirs, arguments))
        )
        processes[-1].start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    start_up = clock()
    for pipe in pipes:
        pipe.send("go")
    found = [pipe.recv() for pipe in pipes]
    seconds = clock()
    for process in processes:
        process.join()
    return found, seconds, start_up


def begin(function: Any, task: Task, workers: int, threads: int, pipe: Connection, arguments: tuple[Any, ...]) -> None:
    """Load everything, say so, wait for the others, then call the function."""
    import optuna
    import torch

    from benchmarks import plain

    torch.set_num_threads(threads)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1).zero_grad()  # what loads with the first optimizer
    plain.loaders(task, 0)  # the list of the files is in the disk's cache from here on
    pipe.send("ready")
    pipe.recv()
    pipe.send(function(task, workers, *arguments))


def time_trial(task: Task, workers: int) -> float:
    from benchmarks import plain

    return next(iter(plain.best_workers(task, (workers,))[1].values()))


def search(task: Task, workers: int, seed: int, index: int, journal: str, tickets: Any) -> list[tuple[float, float]]:
    """Carry out trials as long as there are any; return (seconds since the start, val accuracy) of every epoch."""
    import warnings

    import optuna

    from benchmarks import plain

    clock, points, now = Clock(), [], 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=1000 * seed + index, constant_liar=True)
    backend = optuna.storages.journal.JournalFileBackend(journal)
    study = optuna.create_study(
        study_name="pruned",
        storage=optuna.storages.JournalStorage(backend),
        direction="maximize",
        sampler=sampler,
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1),
        load_if_exists=True,
    )
    if index == 0:
        study.enqueue_trial(dict(OWN))

    def objective(trial: optuna.Trial) -> float:
        params = {key: trial.suggest_float(key, low, high, log=True) for key, (low, high) in SPACE.items()}

        def report(epoch: int, accuracy: float) -> None:
            nonlocal now
            now += clock()
            points.append((round(now, 3), accuracy))
            trial.report(accuracy, epoch + 1)
            if trial.should_prune() and epoch + 1 < task.epochs:
                raise optuna.TrialPruned

        lr, decay = params["optimizer.lr"], params["optimizer.weight_decay"]
        return plain.train(task, lr, workers, task.epochs, report, weight_decay=decay, seed=seed)

    while True:
        with tickets.get_lock():
            tickets.value -= 1
            if tickets.value < 0:
                return points
        study.optimize(objective, n_trials=1)


def words(way: dict[str, int]) -> str:
    processes = f"{way['processes']} process{'' if way['processes'] == 1 else 'es'}"
    return f"{processes}, {way['workers']} loader workers each"


if __name__ == "__main__":
    answer(side)
