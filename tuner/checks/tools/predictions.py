"""What the trained model says about val, example by example, and, once, about test."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tuner.checks.tools.frame import CannotProbe

BATCH = 512


def _predict(setup: Any, model: nn.Module, batches: Any) -> tuple[Tensor, Tensor]:
    """Return outputs and targets of every example, in eval mode, on the CPU."""
    model.eval()
    given: list[Tensor] = []
    wanted: list[Tensor] = []
    with torch.no_grad():
        for inputs, targets in batches:
            outputs = model(inputs)
            if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != len(targets):
                raise CannotProbe("the outputs are not (examples, classes), so there is no prediction per example")
            given.append(outputs.float().cpu())
            wanted.append(targets.cpu())
    return torch.cat(given), torch.cat(wanted)
