"""Heads: functions `head(features, num_classes, **args)` from (N, features) to (N, num_classes), for `model.head`.

The model's last linear layer is replaced. Adding one is adding a function.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from tuner.core.errors import UsageError


def linear(features: int, num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Take one score per class, linear in the features; with dropout before it.

    When: the place to begin.
    dropout: 0 to 0.7.
    Source: the lecture, dropout before fully connected layers.
    """
    if not 0 <= dropout < 1:
        raise UsageError(f"model.head.dropout: must be at least 0 and less than 1 (got {dropout!r})")
    layer = nn.Linear(features, num_classes)
    return nn.Sequential(nn.Dropout(dropout), layer) if dropout else layer


def cosine(features: int, num_classes: int) -> nn.Module:
    """Take the cosine between the features and each class's weights: outputs from -1 to 1, for cosface and arcface.

    When: margin losses; features that are compared by their angle.
    Source: H. Wang et al. 2018, CosFace; the notes on competitions, margin-based softmax.
    """
    return _Cosine(features, num_classes)


def bnneck(features: int, num_classes: int) -> nn.Module:
    """Normalise the features over the batch, without a shift, before a linear layer without a bias.

    When: retrieval: a triplet or center loss on the features before, cross_entropy behind.
    Source: H. Luo et al. 2019, Bag of Tricks for Person Re-Identification; the notes on competitions, BNNeck.
    """
    norm = nn.BatchNorm1d(features)
    norm.bias.requires_grad_(False)
    return nn.Sequential(norm, nn.Linear(features, num_classes, bias=False))


class _Cosine(nn.Linear):
    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__(features, num_classes, bias=False)
        nn.init.xavier_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.normalize(x, dim=1), F.normalize(self.weight, dim=1)).clamp(-1, 1)
