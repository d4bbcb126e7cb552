"""A few of check-init's measurements made again for stored runs, where a measure is new or has changed.

What the rules say then is told by `python -m tests.zoo judge`. Steps after check-init keep the evidence that they had.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.zoo import evidence, pool
from tests.zoo.case import STEPS
from tests.zoo.catalog import load_cases
from tests.zoo.recipe import write_folder
from tests.zoo.run import TIMEOUT_SECONDS
from tuner import stages
from tuner.core.trial import TrialEnv
from tuner.recipe.file import load_recipe
from tuner.stages import Facts, Inputs
from tuner.train.trial import run_trial

BATTERY = "init_battery"


@dataclass(frozen=True)
class Task:
    """A stored run, the measurements to make again, and the folder to do it in."""

    path: Path
    names: tuple[str, ...]
    out: Path


def remeasure(cases: Sequence[str], names: Sequence[str], out: Path, workers: int, say: Callable[[str], None]) -> None:
    """Make the named measurements again for every stored run of the cases, and store them in its evidence."""
    paths = [path for path in sorted(evidence.STORE.glob("*.json.gz")) if path.name.rpartition("-s")[0] in cases]
    tasks = [Task(path, tuple(names), out) for path in paths]
    for number, ended in enumerate(pool.each(_carry_out, tasks, workers, TIMEOUT_SECONDS), 1):
        if ended.how != "finished":
            say(f"{ended.task.path.name}: {ended.how}, {ended.detail}")
        if number % 20 == 0 or number == len(tasks):
            say(f"{number}/{len(tasks)} runs")


def _carry_out(task: Task) -> None:
    folder = task.out / "remeasured" / task.path.name.removesuffix(".json.gz")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    evidence.write(task.path, measured_again(json.loads(gzip.decompress(task.path.read_bytes())), task.names, folder))


def measured_again(run: Mapping[str, Any], names: Sequence[str], folder: Path) -> dict[str, Any]:
    """Return a stored run with some of check-init's measurements made again, in `folder`.

    Raises:
        RuntimeError: the trial that measures failed; the message is its own.
    """
    first = run["steps"][0]
    if first["step"] != STEPS[0] or not first.get("evidence"):
        return dict(run)  # refused before anything was measured
    recipe = load_recipe(
        write_folder(load_cases()[run["case"]], folder), seed=run["seed"], settings=stages.settings_models()
    )
    stage = stages.load(STEPS[0])
    inputs = Inputs({}, {}, Facts(), folder=STEPS[0], planned_epochs=stages.planned_epochs(recipe))
    (item,) = stage.plan(recipe, inputs, stage.Settings(**recipe.stages.get(STEPS[0], {})), [])
    arguments = {**item.spec.measure[BATTERY], "only": list(names)}
    result = run_trial(replace(item, spec=replace(item.spec, measure={BATTERY: arguments})), TrialEnv(folder.resolve()))
    if result.error is not None:
        raise RuntimeError(result.error.message)
    found = {name: result.evidence[BATTERY][name] for name in names}
    return {**run, "steps": [{**first, "evidence": {**first["evidence"], **found}}, *run["steps"][1:]]}
