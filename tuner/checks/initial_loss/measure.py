"""The loss before any update, and what the loss function itself says: at uniform outputs, at its floor."""

from __future__ import annotations

import math
from typing import Any

import torch

from tuner.checks.initial_loss.evidence import InitialLoss
from tuner.checks.tools import outputs as _outputs
from tuner.checks.tools.frame import (
    accuracy,
    before_training,
    entropy,
    equal_batches,
    forward,
    fresh_model,
    random_in_train_mode,
    random_state,
)
from tuner.core.statistics import mean_std


@before_training
def initial_loss(setup: Any, seeds: int = 3, examples: int = 512) -> InitialLoss:
    """Measure the loss of the fresh model over several seeds: train mode, dropout off, no augmentation.

    `loss_at_uniform` is the loss function's own value, on the same batches, where the outputs say nothing about the
    input; `loss_at_prior` where they say the classes' shares. Weight decay is not part of either.
    """
    data, loss = setup.data, setup.loss()
    batches = equal_batches(setup, examples, "initial_loss")
    counts = torch.bincount(data.targets("train").clamp_min(0), minlength=data.num_classes)[: data.num_classes]
    facts = {
        "num_classes": data.num_classes,
        "log_c": math.log(data.num_classes),
        "prior_entropy": entropy(counts),
        "examples": sum(len(targets) for _, targets in batches),
        "batch_size": len(batches[0][1]),
    }
    losses: list[float] = []
    spreads: list[float] = []
    right: list[float | None] = []
    for seed in range(setup.spec.seed, setup.spec.seed + seeds):
        model = fresh_model(setup, seed)
        if seed == setup.spec.seed:
            outputs = forward(model, batches[0][0])
            kind = _outputs.kind_of(model, batches[0][0][:16])
            facts |= {"output_shape": list(outputs.shape[1:]), "kind": kind}
            if outputs.ndim == 2 and 1 < outputs.shape[1] < data.num_classes:
                return InitialLoss(**facts, too_narrow=True)
            facts["random_in_train_mode"] = random_in_train_mode(model, batches[0][0])
        with random_state(seed):
            given = [(forward(model, inputs), targets) for inputs, targets in batches]
        with torch.no_grad():
            losses.append(sum(float(loss(outputs, targets)) for outputs, targets in given) / len(given))
        spreads.append(float(torch.cat([outputs for outputs, _ in given]).std()))
        right.append(accuracy(*(torch.cat(part) for part in zip(*given, strict=True))))
    mean, std = mean_std(losses)
    shape = given[0][0].shape
    ratio = _ratio_of_doubled(loss, *given[0])
    return InitialLoss(
        **facts,
        init_losses=losses,
        init_loss=mean,
        init_loss_std=std,
        init_accuracy=right[0],
        output_std=sum(spreads) / len(spreads),
        loss_at_uniform=_mean_value(loss, batches, _outputs.uniform(kind, shape, given[0][0].device)),
        loss_at_prior=_mean_value(
            loss, batches, _outputs.at_prior(kind, shape, (counts / counts.sum()).to(given[0][0]))
        ),
        doubled_batch_ratio=ratio,
    )


def _mean_value(loss: _outputs.Loss, batches: list[Any], outputs: torch.Tensor | None) -> float | None:
    values = [None if outputs is None else _outputs.value(loss, outputs, targets) for _, targets in batches]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _ratio_of_doubled(loss: _outputs.Loss, outputs: torch.Tensor, targets: torch.Tensor) -> float | None:
    """Return the loss on a batch and its copy over the loss on the batch: 1 for a mean, 2 for a sum."""
    once = _outputs.value(loss, outputs, targets)
    twice = _outputs.value(loss, torch.cat([outputs, outputs]), torch.cat([targets, targets]))
    if once is None or twice is None or not math.isfinite(once) or abs(once) < 1e-6:
        return None
    return twice / once
