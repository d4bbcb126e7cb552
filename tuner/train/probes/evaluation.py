"""Evaluation of the fresh model: is it repeatable, and is each example judged by itself?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tuner.train.probes._frame import (
    NORMALISATION,
    CannotProbe,
    as_number,
    before_training,
    forward,
    keys_of,
    one_batch,
    random_state,
    shaken_model,
)
from tuner.train.probes._outputs import kind_of


def _differs(a: Tensor, b: Tensor) -> float:
    """Return the largest difference over the spread of the outputs."""
    return float((a - b).abs().max() / a.std().clamp_min(1e-6))


@before_training
def repeatable_evaluation(setup: Any) -> dict[str, Any]:
    """Evaluate one batch twice in eval mode, with different random states; with the user's evaluate where there is one.

    `outputs_differ`: the largest difference over the outputs' spread. `statistics_moved`: normalisation layers whose
    running statistics changed while evaluating, which means that they were in train mode.
    """
    model = shaken_model(setup).eval()
    inputs, targets = one_batch(setup, 64, "evaluation")
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
    return found


def _val_reads(setup: Any) -> dict[str, Any]:
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


@before_training
def neighbours(setup: Any) -> dict[str, Any]:
    """Swap the examples before and after a part of an eval-mode batch: its own outputs must stay as they are.

    On both sides, since what runs along the batch, as a recurrent layer that takes it for time, only looks back.
    """
    inputs, _ = one_batch(setup, 48, "neighbours")
    part = len(inputs) // 3
    if part < 2:
        raise CannotProbe(f"only {len(inputs)} train examples")
    model = shaken_model(setup).eval()
    kept, one, other = inputs[:part], inputs[part : 2 * part], inputs[2 * part : 3 * part]
    if torch.equal(one, other):
        raise CannotProbe("the examples are all the same")
    half, outputs = part // 2, []
    for around in (one, other):
        with random_state(0):
            outputs.append(forward(model, torch.cat([around[:half], kept, around[half:]])))
    if len(outputs[0]) != 2 * part:
        return {"differ": None, "outputs": len(outputs[0]), "inputs": 2 * part}
    first, second = (given[half : half + part] for given in outputs)
    return {"differ": _differs(first, second), "outputs": 2 * part, "inputs": 2 * part}


@before_training
def input_use(setup: Any) -> dict[str, Any]:
    """Measure how much the outputs of a shaken model vary over real examples, and change when inputs are zeroed."""
    inputs, _ = one_batch(setup, 64, "input_use")
    if torch.equal(inputs, inputs[:1].expand_as(inputs)):
        raise CannotProbe("the examples are all the same")
    model = shaken_model(setup)
    real = forward(model, inputs)
    zeroed = forward(model, torch.zeros_like(inputs))
    return {
        "varies": float((real - real[:1]).abs().max()),
        "changes_when_zeroed": float((real - zeroed).abs().max()),
        "size": float(real.abs().max()),
    }


@before_training
def linearity(setup: Any) -> dict[str, Any]:
    """Ask whether the model in eval mode is an affine function of its input: f(2a - b) = 2 f(a) - f(b) everywhere.

    Squashed outputs are unsquashed first. `deviation`: the largest deviation over the spread of the outputs.
    """
    inputs, _ = one_batch(setup, 64, "linearity")
    half = len(inputs) // 2
    if not inputs.is_floating_point() or half < 2:
        raise CannotProbe("the inputs are no real numbers, or too few")
    model = shaken_model(setup).eval()
    a, b = inputs[:half], inputs[half : 2 * half]
    kind = kind_of(model, inputs[:16])
    of_a, of_b, beyond = (_unsquashed(forward(model, x), kind) for x in (a, b, 2 * a - b))
    spread = float((of_a - of_a.mean(0)).abs().max())
    weights = sum(p.ndim >= 2 for p in model.parameters())
    if not all(bool(x.isfinite().all()) for x in (of_a, of_b, beyond)) or spread <= 1e-4 * float(of_a.abs().max()):
        raise CannotProbe("the outputs do not vary, or are not finite")
    return {"deviation": float((beyond - (2 * of_a - of_b)).abs().max()) / spread, "weights": weights}


def _unsquashed(outputs: Tensor, kind: str) -> Tensor:
    """Undo the squashing of a head, up to a constant per example."""
    if kind == "unit":
        return torch.logit(outputs)
    if kind == "signed":
        return torch.atanh(outputs)
    logs = outputs.log() if kind == "probabilities" else outputs
    return logs - logs.mean(1, keepdim=True) if kind in ("probabilities", "log-probabilities") else logs
