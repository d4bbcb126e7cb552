"""What the trained model says about val, example by example, and, once, about test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tuner.checks.tools.frame import CannotProbe
from tuner.train.answers import NoAnswers, answered
from tuner.train.setup import Setup

BATCH = 512


def _predict(setup: Setup, model: nn.Module, batches: Iterable[tuple[Any, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return outputs and targets of every example, in eval mode, on the CPU."""

    def rows_of(outputs: Any, targets: Tensor, rows: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return rows[0].float().cpu(), rows[1].cpu()

    try:
        whole = answered(model, batches, setup.scorer(setup.loss()), rows_of)
    except NoAnswers as reason:
        if setup.data.task.name != "classification":
            raise CannotProbe(str(reason)) from reason
        raise CannotProbe("the outputs are not (examples, classes), so there is no prediction per example") from reason
    outputs, targets = zip(*whole, strict=True)
    return torch.cat(outputs), torch.cat(targets)
