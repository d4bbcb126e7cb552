"""What is done to the weights after each update: functions `after_update(model, step, **args)`.

`step` is the number of updates made. Adding one is adding a function.
"""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def max_norm(model: nn.Module, step: int, limit: float = 3.0) -> None:
    """Shorten the weight vector of each unit (filter) to length `limit` where it is longer; frozen ones stay.

    When: large rates with dropout; weights that grow without bound.
    limit: 1 to 8, log.
    Source: G. Hinton et al. 2012; N. Srivastava et al. 2014, Dropout, section 5.1.
    """
    for weight in model.parameters():
        if weight.requires_grad and weight.ndim > 1:
            norm = weight.flatten(1).norm(dim=1).clamp(min=1e-12)
            weight.mul_((limit / norm).clamp(max=1.0).view(-1, *[1] * (weight.ndim - 1)))
