"""`tuner.check`: steps 1 and 2 in this process, on the user's own objects, which are left as they were."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from tuner.api import pace
from tuner.api.keeping import preserved
from tuner.api.live import LiveSetup, Objects, live_setup
from tuner.api.objects import check_objects, in_words_of_python
from tuner.api.report import Report
from tuner.checks.evidence import CannotProbe
from tuner.core.errors import UsageError
from tuner.core.metrics import OverfitMetrics
from tuner.core.result import Record, Skipped, StageResult, TrialResult
from tuner.core.trial import WorkItem
from tuner.recipe.model import Recipe
from tuner.stages import Inputs, load
from tuner.train.device import in_full_precision
from tuner.train.kernel_asserts import as_on_cpu

SECONDS = 30.0  # what a check may take: what there is no time for is listed as skipped
AT_START = 256  # examples whose loss is measured
OVERFIT_STEPS, FITTED_EXAMPLES = 60, 16
FEWEST_STEPS = 10  # of a fit


def check(
    model: nn.Module,
    train: Any,
    val: Any = None,
    *,
    loss: Callable[..., Any] | str,
    optimizer: torch.optim.Optimizer | None = None,
    task: str | None = None,
    seconds: float = SECONDS,
) -> Report:
    """Check a training that is written already: is the loss at the start right, is a step wired as it should be?

    `train`, `val`: DataLoaders, Datasets or pairs of arrays. `loss`: "model" where the model returns its loss itself,
    given the targets. `task`: only where the targets can be read in more than one way. Nothing of what is handed over
    is changed: weights, modes, gradients, optimizer state and every random generator are put back bit for bit. At most
    2,000 examples of a split are looked at, for `seconds`: what there is no time for is listed as skipped.

    Raises:
        UsageError: the data is in no form that is known (the message has the line that makes it work); the model, the
            loss or the optimizer is none, or not built yet.
        UserCodeError: the model, the loss or the data set raised.
    """
    check_objects(model, loss, optimizer)
    if not seconds > 0:
        raise UsageError(f"seconds: must be more than 0 (got {seconds!r})", "30 is enough for most models.")
    with preserved(model, optimizer, loss, train, val), torch.inference_mode(False), torch.enable_grad():
        until = time.monotonic() + seconds
        with in_words_of_python():
            setup, recipe = live_setup(Objects(model, loss, optimizer), {"train": train, "val": val}, task, seconds)
        with as_on_cpu(setup.env.device), in_full_precision(setup.env.device):
            first = _judged("check-init", recipe, setup, {"init_battery": _battery(setup, until, seconds)})
            second = _fitted(setup, recipe, until) if first.verdict != "fail" else None
    return Report((first,) if second is None else (first, second))


def _battery(setup: LiveSetup, until: float, seconds: float) -> Mapping[str, Any]:
    """Make the measurements of step 1 until a quarter of the time is left, which is the fit's."""
    from tuner.recipe import registry

    battery = registry.resolve("probe", "init_battery", setup.env.recipe_dir)
    examples = pace.affordable_at_start(pace.per_example(setup), seconds, AT_START)
    until -= pace.FITTED * seconds
    return battery(replace(setup, until=until), seeds=1, examples=examples, until=until)


def _fitted(setup: LiveSetup, recipe: Recipe, until: float) -> StageResult:
    """Try to fit a tiny subset, at the optimizer's own rate, for a few steps, as many as there is time for.

    A subset that is not fitted in so few steps proves nothing: only one that is fitted is reported.
    """
    from tuner.recipe import registry

    if not any(item.requires_grad for item in setup.model().parameters()):
        return _not_settled("no parameter of the model requires a gradient")
    overfit = registry.resolve("probe", "overfit", setup.env.recipe_dir)
    step = 3 * FITTED_EXAMPLES * pace.per_example(setup)  # a backward takes about two forwards
    steps = pace.affordable_steps(step, until, OVERFIT_STEPS)
    if steps < FEWEST_STEPS:
        takes = f"a step on {FITTED_EXAMPLES} examples takes about {step:.1f} s"
        return _not_settled(f"{takes}, and there is no time for {FEWEST_STEPS} of them")
    try:
        found = overfit(replace(setup, until=until), examples=FITTED_EXAMPLES, max_steps=steps, give_up_early=False)
    except CannotProbe as reason:
        return _not_settled(str(reason))
    found = found.to_json() if hasattr(found, "to_json") else found
    if found.get("status") != "floor":
        tried = f"{steps} steps at the optimizer's own rate did not fit {FITTED_EXAMPLES} examples"
        return _not_settled(f"{tried}, which proves nothing")
    found.pop("curve", None)
    return _judged("overfit", recipe, setup, {"overfit": found})


def _not_settled(why: str) -> StageResult:
    skipped = [Skipped("fit of a tiny subset", "more rates, steps and time are needed: tuner overfit")]
    return StageResult("overfit", f"Not settled: {why}.", OverfitMetrics(), skipped=skipped)


def _judged(stage: str, recipe: Recipe, setup: LiveSetup, evidence: Mapping[str, Any]) -> StageResult:
    """Judge evidence as the stage of that name does."""
    module = load(stage)
    item = WorkItem(setup.spec, 0)
    result = TrialResult(id=setup.spec.id, until_epoch=None, status="completed", evidence=evidence)
    inputs = Inputs(results={}, trials={})
    return module.judge(recipe, inputs, module.Settings(), [Record(item, TrialResult.from_json(result.to_json()))])
