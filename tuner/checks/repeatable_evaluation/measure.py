"""Evaluation of the fresh model: is it repeatable, and is each example judged by itself?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tuner.checks.repeatable_evaluation.evidence import RepeatableEvaluation
from tuner.checks.tools.cost import affordable
from tuner.checks.tools.evaluations import _differs
from tuner.checks.tools.frame import (
    NORMALISATION,
    as_number,
    before_training,
    forward,
    keys_of,
    one_batch,
    random_state,
    shaken_model,
)
from tuner.train.setup import Setup


@before_training
def repeatable_evaluation(setup: Setup) -> RepeatableEvaluation:
    """Evaluate one batch twice in eval mode, with two random states; with the user's evaluate where there is one."""
    model = shaken_model(setup).eval()
    inputs, targets = one_batch(setup, affordable(setup, 64), "evaluation")
    outputs = []
    for seed in (1, 2):
        with random_state(seed):
            outputs.append(forward(model, inputs))
    found: dict[str, Any] = {"outputs_differ": _differs(*outputs), "modes_in_forward": [], "left_in_train_mode": False}
    before = _statistics(model)
    if setup.evaluate_hook is not None:
        modes: list[bool] = []
        handles = [m.register_forward_pre_hook(lambda module, _: modes.append(module.training)) for m in _modal(model)]
        loss, values = setup.loss(), []
        for seed in (1, 2):
            with random_state(seed):
                result = setup.evaluate_hook(model=model, batches=[(inputs, targets)], loss=loss)
            values.append({key: as_number(value) for key, value in result.items()})
        for handle in handles:
            handle.remove()
        found["hook_values"] = values
        found["modes_in_forward"] = sorted({"train" if mode else "eval" for mode in modes})
        found["left_in_train_mode"] = model.training
    found |= _val_reads(setup)
    found["statistics_moved"] = [
        name for name, value in _statistics(model).items() if not torch.equal(value, before[name])
    ]
    return RepeatableEvaluation(**(found))


def _val_reads(setup: Setup) -> dict[str, Any]:
    """Return the share of val examples that are other inputs when they are read again, and what they are then.

    `val_reads_times`: the one number that all of them are multiplied by, beside a number that is added; None where
    there is no such number, as with random transforms.
    """
    if not setup.data.size("val"):
        return {"val_reads_differ": None, "val_reads_times": None}
    first, second = (one_batch(setup, 32, "val twice", "val")[0] for _ in range(2))
    changed = sum(a != b for a, b in zip(keys_of(first), keys_of(second), strict=True)) / len(first)
    return {"val_reads_differ": changed, "val_reads_times": _times(first, second) if changed else None}


def _times(first: Tensor, second: Tensor) -> float | None:
    """Return a where second = a first + b with one a and b for all examples, None where it is not."""
    x, y = (part.flatten().double() for part in (first, second))
    spread = (x - x.mean()).square().sum()
    if not spread > 0:
        return None
    times = float(((x - x.mean()) * (y - y.mean())).sum() / spread)
    left = (y - y.mean() - times * (x - x.mean())).norm()
    return times if left <= 1e-3 * (y - y.mean()).norm() else None


def _modal(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, (NORMALISATION, nn.modules.dropout._DropoutNd))]


def _statistics(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: buffer.clone() for name, buffer in model.named_buffers() if name.endswith(("running_mean", "running_var"))
    }
