"""The loss before any update, and what the loss function itself says: at uniform outputs, at its floor."""

from __future__ import annotations

import math
from typing import Any

import torch

from tuner.checks.initial_loss.evidence import InitialLoss
from tuner.checks.tools import outputs as _outputs
from tuner.checks.tools.cost import affordable, is_large
from tuner.checks.tools.frame import (
    before_training,
    equal_batches,
    fresh_model,
    judged,
    random_in_train_mode,
    random_state,
    share_right,
)
from tuner.checks.tools.heads import FEW, head_of
from tuner.core.statistics import mean_std
from tuner.tasks.base import monitored_score
from tuner.train.data import Data
from tuner.train.expected import class_counts, entropies
from tuner.train.kernel_asserts import as_on_cpu
from tuner.train.setup import Setup


@before_training
def initial_loss(setup: Setup, seeds: int = 3, examples: int = 512) -> InitialLoss:
    """Measure the loss of the fresh model over several seeds: train mode, dropout off, no augmentation.

    Weight decay is not part of either.
    """
    data, loss, head = setup.data, setup.loss(), head_of(setup)
    batches = equal_batches(setup, affordable(setup, examples), "initial_loss")
    counts = class_counts(data)
    facts: dict[str, Any] = {
        "task": data.task.name,
        "score_name": monitored_score(data.task, setup.tables["train"].get("monitor", "val_accuracy")),
        "num_classes": data.num_classes,
        **entropies(data, counts),
        "examples": sum(len(targets) for _, targets in batches),
        "batch_size": len(batches[0][1]),
    }
    losses: list[float] = []
    spreads: list[float] = []
    right: list[float | None] = []
    for seed in range(setup.spec.seed, setup.spec.seed + seeds):
        model = fresh_model(setup, seed)
        if seed == setup.spec.seed:
            facts |= {"output_shape": list(head.shape), "kind": head.kind}
            if len(head.shape) == 1 and 1 < head.shape[0] < data.num_classes and data.task.noun == "class":
                if not _takes(setup, loss, head.shape[0]):
                    return InitialLoss(**facts, too_narrow=True)
                facts["narrow"] = True
            some = batches[0][0][:FEW] if is_large(setup) and data.is_one else batches[0][0]
            facts["random_in_train_mode"] = random_in_train_mode(model, some)
        with random_state(seed):
            answers = [judged(model, batch, loss) for batch in batches]
        given = [(outputs, targets) for (outputs, _), (_, targets) in zip(answers, batches, strict=True)]
        losses.append(sum(value for _, value in answers) / len(answers))
        spreads.append(float(torch.cat([outputs.flatten() for outputs, _ in given]).std()))
        right.append(share_right(given))
    mean, std = mean_std(losses)
    at_uniform, at_prior = _knowing_nothing(data, loss, given, head.kind, counts)
    zero = _outputs.uniform(head.kind, given[0][0].shape, given[0][0].device) if data.task.noun == "value" else None
    ratio = _ratio_of_doubled(loss, *given[0])
    return InitialLoss(
        **facts,
        init_losses=losses,
        init_loss=mean,
        init_loss_std=std,
        init_accuracy=right[0],
        output_std=sum(spreads) / len(spreads),
        loss_at_uniform=at_uniform,
        loss_at_prior=at_prior,
        loss_at_zero=_mean_value(loss, given, zero),
        doubled_batch_ratio=ratio,
    )


def _takes(setup: Setup, loss: _outputs.Loss, width: int) -> bool:
    """Return whether a loss takes so many outputs with every label, the largest among them."""
    labels = setup.data.targets("train").unique().to(setup.data.device)
    outputs = torch.randn(len(labels), width, generator=torch.Generator().manual_seed(0)).to(setup.data.device)
    with as_on_cpu(setup.data.device):
        return _outputs.value(loss, outputs, labels) is not None


def _knowing_nothing(
    data: Data, loss: _outputs.Loss, given: list[Any], kind: str, counts: torch.Tensor
) -> tuple[float | None, float | None]:
    """Return the loss at outputs that say nothing of the input, and at those that know the targets' shares.

    Of classes: equal scores, and the classes' shares. Of labels: zero, and the best constant outputs. Of quantities
    both are the best constant output, which the loss itself finds: the mean for squares, the median for distances.
    """
    outputs = given[0][0]
    shape = outputs.shape
    uniform, shares = _outputs.uniform(kind, shape, outputs.device), (counts / counts.sum()).to(outputs)
    if data.task.noun == "class":
        same = all(other.shape == shape for other, _ in given)
        if outputs.ndim == 2 or not same:
            prior = _outputs.at_prior(kind, shape, shares) if shape[1:2] == shares.shape else None
        else:
            prior = _shares_everywhere(shares, shape)
        return _mean_value(loss, given, uniform), _mean_value(loss, given, prior)
    if data.task.noun == "identity":
        return None, None
    constants = [_outputs.constant_floor(loss, targets, outputs.shape, kind) for outputs, targets in given]
    known = [value for value in constants if value is not None]
    best = sum(known) / len(known) if len(known) == len(given) else None
    return (_mean_value(loss, given, uniform) if data.task.noun == "label" else best), best


def _shares_everywhere(shares: torch.Tensor, shape: torch.Size) -> torch.Tensor | None:
    """Return scores that say the classes' shares at every position, whether the classes are second or last."""
    places = [place for place in (1, len(shape) - 1) if 0 < place < len(shape)]
    axis = next((place for place in places if shape[place] == len(shares)), None)
    if axis is None:
        return None
    spread = [1] * len(shape)
    spread[axis] = -1
    return shares.clamp_min(1e-12).log().reshape(spread).expand(shape)


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
