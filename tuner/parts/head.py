"""Heads: functions `head(features, num_classes, **args)` from (N, features) to (N, num_classes), for `model.head`.

The model's last linear layer is replaced. Adding one is adding a function.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tuner.core.errors import UsageError
from tuner.parts.layers import pieces


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
    Source: H. Luo et al. 2019, Bag of Tricks and a Strong Baseline for Deep Person Re-identification; the notes on
    competitions, BNNeck.
    """
    norm = nn.BatchNorm1d(features)
    norm.bias.requires_grad_(False)
    return nn.Sequential(norm, nn.Linear(features, num_classes, bias=False))


def pcb(features: int, num_classes: int, parts: int = 3, width: int = 64) -> nn.Module:
    """Give each of `parts` pieces of the features (stripes of the image) `width` features and a classifier of its own.

    The outputs are the mean of the parts' log-probabilities: with `loss.name = "nll"` the loss is the mean of the
    parts' cross-entropies, as in the paper, whose refined pooling, a second training, is left out.

    When: retrieval, where objects stand upright (people, bottles); with `model.global_pool = { name = "stripes" }` of
    as many parts.
    parts: 2 to 6. width: 16 to 256, log.
    Source: Y. Sun et al. 2018, Beyond Part Models (PCB); the notes on competitions, global and local features.
    """
    return _Parts(features, num_classes, parts, width, "pcb")


def mgn(features: int, num_classes: int, granularities: Sequence[int] = (1, 2, 3), width: int = 64) -> nn.Module:
    """Give the whole image, its halves, its thirds, ... `width` features and a classifier each; outputs as for pcb.

    The paper's branches have last blocks of their own, and a triplet loss on the global features beside (a list of
    losses does that); here all share one map.

    When: as pcb, where the whole and its parts both tell; with `model.global_pool = { name = "granularities" }` of the
    same granularities.
    width: 16 to 256, log.
    Source: G. Wang et al. 2018, Multiple Granularity Network (MGN); the notes on competitions, global and local.
    """
    return _Parts(features, num_classes, sum(pieces("model.head", granularities)), width, "mgn")


class _Parts(nn.Module):
    def __init__(self, features: int, num_classes: int, parts: int, width: int, name: str) -> None:
        super().__init__()
        if not isinstance(parts, int) or parts < 1 or features % parts:
            pool = 'model.global_pool = { name = "stripes", parts = ... } (pcb) or "granularities" (mgn)'
            raise UsageError(f"model.head: {name} of {parts!r} parts cannot share {features} features", f"Set {pool}.")
        self.parts = parts
        each = features // parts
        self.reduce = nn.ModuleList(
            [nn.Sequential(nn.Linear(each, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()) for _ in range(parts)]
        )
        self.classify = nn.ModuleList([nn.Linear(width, num_classes) for _ in range(parts)])

    def forward(self, x: Tensor) -> Tensor:
        reduced = [layer(part) for layer, part in zip(self.reduce, x.chunk(self.parts, 1), strict=True)]
        scores = [layer(part).log_softmax(1) for layer, part in zip(self.classify, reduced, strict=True)]
        return torch.stack(scores).mean(0)


class _Cosine(nn.Linear):
    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__(features, num_classes, bias=False)
        nn.init.xavier_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.normalize(x, dim=1), F.normalize(self.weight, dim=1)).clamp(-1, 1)
