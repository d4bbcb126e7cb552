"""An executor that trains nothing: it answers with scripted results. Stages are tested with it, in milliseconds.

`carry_out` is the loop that a run has around a stage, without the run's files, whatever the executor.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner.core.preflight import Preflight
from tuner.core.result import Record, TrialError, TrialResult
from tuner.core.trial import TrialEnv, WorkItem, canonical_json
from tuner.execute.slots import Slot, Slots
from tuner.workflow.executor_pool import StageRunner

NOWHERE = TrialEnv(Path())  # scripted trials read and write no files

Script = Callable[[WorkItem], TrialResult] | Mapping[str, TrialResult]


class ReplayExecutor:
    """Yield what the script says for each item: a function of the item, or results by `script_key(overrides)`.

    The answer gets the item's id and stop point, so a script need not know them. `shuffle`: seed of the order in which
    results arrive, None for the order asked. `ran` counts the items that were run.
    """

    def __init__(self, script: Script, shuffle: int | None = None) -> None:
        self.script = script
        self.ran: list[WorkItem] = []
        self._random = None if shuffle is None else random.Random(shuffle)

    @property
    def slots(self) -> Slots:
        return Slots("cpu", (Slot(0),))

    def preflight(self, recipe: Mapping[str, Any], env: TrialEnv) -> Preflight:
        """Find no problem: nothing is built."""
        return Preflight(env.device)

    def run(self, items: Sequence[WorkItem], env: TrialEnv = NOWHERE) -> Iterator[TrialResult]:
        order = list(items)
        if self._random is not None:
            self._random.shuffle(order)
        for item in order:
            self.ran.append(item)
            answer = self.script(item) if callable(self.script) else self.script[script_key(item.spec.overrides)]
            yield replace(answer, id=item.spec.id, until_epoch=item.until_epoch)

    def close(self) -> None:
        """Do nothing: there are no workers."""


def script_key(overrides: Mapping[str, Any]) -> str:
    """Return the key of a scripted result: the trial's overrides as canonical JSON."""
    return canonical_json(dict(overrides))


def replay(
    stage: Any, recipe: Any, inputs: Any, settings: Any, script: Script, shuffle: int | None = None
) -> list[Record]:
    """Plan and run a stage to its end by replay; return its records by number."""
    return carry_out(stage, recipe, inputs, settings, StageRunner(ReplayExecutor(script, shuffle), NOWHERE))


def carry_out(
    stage: Any,
    recipe: Any,
    inputs: Any,
    settings: Any,
    runner: StageRunner,
    hear: Callable[[Record], None] = lambda record: None,
) -> list[Record]:
    """Plan and run a stage to its end without the files of a run; return its records in order. `hear` is told each."""
    finished: dict[Any, Record] = {}

    def in_order() -> list[Record]:
        return sorted(finished.values(), key=lambda record: record.order)

    while items := stage.plan(recipe, inputs, settings, in_order()):
        todo = {item.key: item for item in items if item.key not in finished}
        for result in runner.run(list(todo.values())):
            key = (result.id, result.until_epoch)
            finished[key] = Record(todo[key], result)
            hear(finished[key])
    return in_order()


def descent(losses: Sequence[float]) -> TrialResult:
    """Script a trial of single steps: its train objective per step; a loss that is not finite makes it diverged."""
    finite = all(abs(loss) < float("inf") for loss in losses)
    curve = [{"step": step, "epoch": 1, "split": "train", "loss": loss} for step, loss in enumerate(losses, 1)]
    return TrialResult("", None, "completed" if finite else "diverged", curve)


def epochs(
    val_accuracy: Sequence[float],
    val_loss: Sequence[float] | None = None,
    train_accuracy: Sequence[float] | None = None,
    train_loss: Sequence[float] | None = None,
    lr: Sequence[float] | float = 0.01,
    evidence: Mapping[str, Mapping[str, Any]] | None = None,
) -> TrialResult:
    """Script a trial of epochs by its curves; what is not given is made to fit. The best epoch is the score's."""
    n = len(val_accuracy)
    val_loss = val_loss or [1 - accuracy for accuracy in val_accuracy]
    train_accuracy = train_accuracy or val_accuracy
    train_loss = train_loss or [0.98 * loss for loss in val_loss]  # never the same number: val would be train
    rates = [lr] * n if isinstance(lr, (int, float)) else list(lr)
    curve: list[dict[str, Any]] = []
    for i in range(n):
        at = {"step": 10 * (i + 1), "epoch": i + 1}
        curve.append({**at, "split": "train", "loss": train_loss[i], "accuracy": train_accuracy[i], "lr": rates[i]})
        curve.append({**at, "split": "train_eval", "loss": train_loss[i], "accuracy": train_accuracy[i]})
        curve.append({**at, "split": "val", "loss": val_loss[i], "accuracy": val_accuracy[i]})
    best = max(range(n), key=lambda i: (val_accuracy[i], -val_loss[i]))
    return TrialResult("", None, "completed", curve, evidence or {}, val_accuracy[best], best + 1, wall_seconds=1.0)


def failure(kind: Any, message: str = "scripted") -> TrialResult:
    """Script a trial that failed."""
    return TrialResult("", None, "failed", error=TrialError(kind, message))
