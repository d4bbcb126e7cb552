"""Cheap pictures of examples, and cheap classifiers over them, for questions about the data alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 8  # images are averaged down to this
LONG = 64
CLIP = 6.0
RIDGE = 0.1


def small(inputs: Tensor) -> Tensor:
    """Return (examples, features): images averaged down to 8 x 8, sequences to 64, tables as they are."""
    values = inputs.detach().cpu().float()
    if values.ndim == 4 and max(values.shape[2:]) > SIDE:
        values = F.adaptive_avg_pool2d(values, (min(SIDE, values.shape[2]), min(SIDE, values.shape[3])))
    elif values.ndim == 3 and values.shape[2] > LONG:
        values = F.adaptive_avg_pool1d(values, LONG)
    return values.reshape(len(values), -1).nan_to_num(0.0, 0.0, 0.0)


def textured(inputs: Tensor) -> Tensor:
    """Return `small` together with the spread and the roughness of every channel of an image."""
    values = inputs.detach().cpu().float()
    if values.ndim != 4:
        return small(inputs)
    spread = values.std((2, 3))
    rough = [values.diff(dim=side).abs().mean((2, 3)) for side in (2, 3) if values.shape[side] > 1]
    return torch.cat([small(inputs), spread, *rough], dim=1).nan_to_num(0.0, 0.0, 0.0)


def spectral(inputs: Tensor) -> Tensor:
    """Return (examples, features): how strong each band of frequencies is, in every channel, wherever it stands.

    Of images 8 x 8 bands, of sequences of 64 steps or more 64; of other inputs none: (examples, 0). A tone, or a
    texture, is the same here whenever it begins; averaged down, it is nothing.
    """
    values = inputs.detach().cpu().float().nan_to_num(0.0, 0.0, 0.0)
    if values.ndim == 4 and min(values.shape[2:]) >= SIDE:
        strength = torch.fft.rfft2(values - values.mean((2, 3), keepdim=True)).abs()
        bands = F.adaptive_avg_pool2d(strength, (min(SIDE, strength.shape[2]), min(SIDE, strength.shape[3])))
    elif values.ndim in (2, 3) and values.shape[-1] >= LONG:
        strength = torch.fft.rfft(values - values.mean(-1, keepdim=True)).abs()
        bands = F.adaptive_avg_pool1d(
            strength.reshape(len(values), -1, strength.shape[-1]), min(LONG, strength.shape[-1])
        )
    else:
        return torch.zeros(len(values), 0)
    return bands.clamp_min(1e-12).log().reshape(len(values), -1)


@dataclass(frozen=True)
class Scaler:
    """Centres features and divides them by their spread, as fitted on other examples."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Scaler:
        std = features.std(0, correction=0)
        return cls(features.mean(0), torch.where(std > 1e-6 * std.max().clamp_min(1e-12), std, torch.inf))

    def __call__(self, features: Tensor) -> Tensor:
        return ((features - self.mean) / self.std).clamp(-CLIP, CLIP)


@dataclass(frozen=True)
class Kernel:
    """Kernel ridge regression on one-hot labels, with a Gaussian as wide as the median distance.

    `left_out`: each example's scores by the others alone, in closed form.
    """

    examples: Tensor
    weights: Tensor
    offset: Tensor
    width: float
    left_out: Tensor

    @classmethod
    def fit(cls, examples: Tensor, targets: Tensor, classes: int) -> Kernel:
        wanted = F.one_hot(targets, classes).double()
        offset = wanted.mean(0)
        squares = torch.cdist(examples, examples).square()
        width = max(float(squares[squares > 0].median()) if bool((squares > 0).any()) else 1.0, 1e-12)
        inverse = torch.linalg.inv((-squares / width).exp().double() + RIDGE * torch.eye(len(examples)).double())
        weights = inverse @ (wanted - offset)
        left_out = wanted - weights / inverse.diagonal()[:, None]
        return cls(examples, weights, offset, width, left_out)

    def scores(self, others: Tensor) -> Tensor:
        near = (-torch.cdist(others, self.examples).square() / self.width).exp().double()
        return near @ self.weights + self.offset


def without_copies(examples: Tensor) -> Tensor:
    """Return which examples have no near copy before them: copies that judge each other would look like knowledge."""
    distances = torch.cdist(examples, examples)
    ordered, places = distances.fill_diagonal_(torch.inf).topk(min(10, len(examples) - 1), 1, largest=False)
    copied = (ordered[:, 0] < 0.25 * ordered[:, -1]) & (places[:, 0] < torch.arange(len(examples)))
    return (~copied).nonzero().flatten()


def separability(one: Tensor, other: Tensor) -> float:
    """Return how well a linear classifier tells two sets of examples apart: the area under its ROC curve.

    Every example is scored by the others alone (ridge regression, left out in closed form); 0.5 is chance.
    """
    both = torch.cat([one, other])
    both = torch.cat([Scaler.of(both)(both), torch.ones(len(both), 1)], 1).double()
    labels = torch.cat([torch.ones(len(one)), -torch.ones(len(other))]).double()
    penalty = 0.1 * len(both) * torch.eye(both.shape[1]).double()
    penalty[-1, -1] = 0.0  # the last column is the offset
    gram = both.T @ both + penalty
    hat = both @ torch.linalg.solve(gram, both.T)
    leverage = hat.diagonal().clamp(max=0.999)
    scores = (hat @ labels - leverage * labels) / (1 - leverage)
    return area(scores[: len(one)], scores[len(one) :])


def area(positive: Tensor, negative: Tensor) -> float:
    """Return the probability that a positive example scores higher than a negative one (ties count half)."""
    ordered = negative.sort().values
    below, up_to = (torch.searchsorted(ordered, positive, right=right).double() for right in (False, True))
    return float((below + up_to).mean()) / (2 * len(negative))
