"""Losses of features: outputs (N, D) that are compared with each other, not scores of classes.

Alone they are taken of the model's outputs. In a sum of losses they are taken of the head's input, beside the losses of
its outputs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tuner.core.errors import UsageError
from tuner.parts.losses._targets import indices


def _of_features(loss: Any) -> Any:
    """Mark a loss as one of features."""
    loss.of_features = True
    return loss


@_of_features
def triplet(outputs: Tensor, targets: Tensor, margin: float = 0.3, normalise: bool = False) -> Tensor:
    """Take max(0, margin + distance to the furthest of the same class - distance to the nearest of another).

    Batch-hard mining: an example of which the batch holds both a partner and a stranger is an anchor; mean over these.
    Needs batches with several examples per class (`data.sampler = "balanced"`).

    When: features for retrieval; alone, or beside cross_entropy in a list of losses.
    margin: 0.1 to 1, log.
    Source: A. Hermans et al. 2017, In Defense of the Triplet Loss; the notes on competitions, triplet + softmax loss.
    """
    labels = indices(targets, "triplet")
    features = F.normalize(outputs, dim=1) if normalise else outputs
    squared = (features[:, None] - features[None]).square().sum(2)
    distances = (squared + 1e-12).sqrt()
    same = labels[:, None] == labels[None]
    partner = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    furthest = distances.masked_fill(~partner, -torch.inf).amax(1)
    nearest = distances.masked_fill(same, torch.inf).amin(1)
    anchors = partner.any(1) & ~same.all(1)
    if not bool(anchors.any()):
        return outputs.sum() * 0
    return F.relu(margin + furthest[anchors] - nearest[anchors]).mean()


@_of_features
class center:
    """Take half the squared distance of each example's features from the centre of its class, mean over the batch.

    The centres are no weights: in train mode each moves by `alpha` of the mean distance of its class in the batch,
    c += alpha sum(x - c) / (1 + n).

    When: beside cross_entropy in a list of losses: features of a class lie close together.
    alpha: 0.1 to 1.
    Source: Y. Wen et al. 2016, A Discriminative Feature Learning Approach for Deep Face Recognition.
    """

    def __init__(self, alpha: float = 0.5) -> None:
        if not 0 < alpha <= 1:
            raise UsageError(f"loss.alpha: must be above 0, up to 1 (got {alpha!r})")
        self.alpha = alpha
        self.centres: Tensor | None = None

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        labels = indices(targets, "center")
        classes = int(labels.max()) + 1
        if self.centres is None:
            self.centres = outputs.new_zeros(0, outputs.shape[1])
        if len(self.centres) < classes:
            more = self.centres.new_zeros(classes - len(self.centres), outputs.shape[1])
            self.centres = torch.cat([self.centres, more])
        loss = (outputs - self.centres[labels]).square().sum(1).mean() / 2
        if torch.is_grad_enabled():
            self._move(outputs.detach(), labels)
        return loss

    def _move(self, features: Tensor, labels: Tensor) -> None:
        assert self.centres is not None
        sums = torch.zeros_like(self.centres).index_add_(0, labels, features - self.centres[labels])
        counts = torch.bincount(labels, minlength=len(self.centres)).to(features.dtype)
        self.centres = self.centres + self.alpha * sums / (1 + counts)[:, None]

    def state_dict(self) -> dict[str, Any]:
        return {"centres": self.centres}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.centres = state["centres"]
