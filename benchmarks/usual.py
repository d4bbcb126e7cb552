"""(a) What a user writes: Optuna around the plain loop, one trial after the other, with torch's own threads."""

from __future__ import annotations

from benchmarks.task import CLASSES, Clock, Outcome, Task, serve


def side(task: Task) -> Outcome:
    clock = Clock()
    import optuna
    import torch

    from benchmarks import plain

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1).zero_grad()  # what loads with the first optimizer
    apart = {"start-up": clock()}
    workers, _ = (0, {}) if task.kind == "digits" else plain.best_workers(task, (0, 1, 2))
    apart["finding the number of loader workers"] = clock()
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    for lr in task.rates:
        study.enqueue_trial({"lr": lr})

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
        return plain.train(task, lr, workers, task.epochs, lambda epoch, value: trial.report(value, epoch))

    study.optimize(objective, n_trials=task.trials)
    seconds = clock()
    count = len(plain.loaders(task, 0)[0].dataset)
    note = f"{workers} loader workers, {torch.get_num_threads()} threads"
    assert count > CLASSES
    return Outcome(seconds, count * task.epochs * task.trials, study.best_value, apart, note)


if __name__ == "__main__":
    serve(side)
