"""`tuner.check`: steps 1 and 2 in this process, on the user's own objects, which are left as they were."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from tuner.api.keeping import preserved
from tuner.api.live import LiveSetup, Objects, live_setup
from tuner.api.report import Report
from tuner.core.metrics import OverfitMetrics
from tuner.core.result import Record, Skipped, StageResult, TrialResult
from tuner.core.trial import WorkItem
from tuner.recipe.model import Recipe
from tuner.stages import Inputs, load

SECONDS = 30.0  # what a check may take: what is left over then is listed as skipped
OVERFIT_STEPS = 60


def check(
    model: nn.Module,
    train: Any,
    val: Any = None,
    *,
    loss: Callable[..., Any],
    optimizer: torch.optim.Optimizer | None = None,
    task: str | None = None,
    seconds: float = SECONDS,
) -> Report:
    """Check a training that is written already: is the loss at the start right, is a step wired as it should be?

    `train`, `val`: DataLoaders, Datasets or pairs of arrays. `task`: only where the targets can be read in more than
    one way. Nothing of what is handed over is changed: weights, modes, gradients, optimizer state and every random
    generator are put back bit for bit. At most 2,000 examples of a split are looked at, for about `seconds`.

    Raises:
        UsageError: the data is in no form that is known; the message has the line that makes it work.
        UserCodeError: the model, the loss or the data set raised.
    """
    with preserved(model, optimizer, loss, train, val):
        setup, recipe = live_setup(Objects(model, loss, optimizer), {"train": train, "val": val}, task)
        until = time.monotonic() + seconds
        evidence = _battery(setup, until)
        first = _judged("check-init", recipe, setup, {"init_battery": evidence})
        second = _fitted(setup, recipe, until) if first.verdict != "fail" else None
    results = (first, second) if second is not None else (first,)
    return Report(tuple(result for result in results if result is not None))


def _battery(setup: LiveSetup, until: float) -> Mapping[str, Any]:
    from tuner.recipe import registry

    battery = registry.resolve("probe", "init_battery", setup.env.recipe_dir)
    return battery(setup, seeds=1, examples=256, until=until)


def _fitted(setup: LiveSetup, recipe: Recipe, until: float) -> StageResult | None:
    """Try to fit a tiny subset, at the optimizer's own rate, for a few steps; None where there is no time for it.

    A subset that is not fitted in so few steps proves nothing: only one that is fitted is reported.
    """
    from tuner.recipe import registry

    if time.monotonic() > until:
        return None
    overfit = registry.resolve("probe", "overfit", setup.env.recipe_dir)
    found = overfit(setup, examples=16, max_steps=OVERFIT_STEPS, give_up_early=False)
    found = found.to_json() if hasattr(found, "to_json") else found
    if found.get("status") != "floor":
        said = f"{OVERFIT_STEPS} steps at the optimizer's own rate did not fit 16 examples, which proves nothing"
        why = Skipped("fit of a tiny subset", "more rates and steps are needed: tuner overfit")
        return StageResult("overfit", f"Not settled: {said}.", OverfitMetrics(), skipped=[why])
    found.pop("curve", None)
    return _judged("overfit", recipe, setup, {"overfit": found})


def _judged(stage: str, recipe: Recipe, setup: LiveSetup, evidence: Mapping[str, Any]) -> StageResult:
    """Judge evidence as the stage of that name does."""
    module = load(stage)
    item = WorkItem(setup.spec, 0)
    result = TrialResult(id=setup.spec.id, until_epoch=None, status="completed", evidence=evidence)
    inputs = Inputs(results={}, trials={})
    return module.judge(recipe, inputs, module.Settings(), [Record(item, TrialResult.from_json(result.to_json()))])
