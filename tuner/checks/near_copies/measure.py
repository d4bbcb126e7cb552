"""Examples of val that are nearly the same as one of train: shifted, noisy, re-encoded copies, neighbouring frames."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tuner.checks.near_copies.evidence import NearCopies
from tuner.checks.tools.examples import per_chunk
from tuner.checks.tools.features import small
from tuner.checks.tools.frame import CannotProbe, DoesNotApply, of_data_alone, sample
from tuner.train.data import Data
from tuner.train.setup import Setup

ASKED = 600  # examples of val
MOST_TRAIN = 60_000
MOST_STREAMED = 10_000  # of train examples that are made each time that they are read
CHUNK = 4096
NEIGHBOURS = 10
CLOSE = 0.25  # of the distance to the tenth neighbour: with ten copies or fewer, others are beyond it
NEAR = 0.25  # of the median distance between examples


@of_data_alone
def near_copies(setup: Setup) -> NearCopies:
    """Find val images whose nearest train image is far nearer than the tenth nearest and than images are apart.

    In data that fill d dimensions evenly, the nearest of ten is q times nearer than the tenth with probability about 10
    q^d: copies stand out wherever d is not small, whatever the images are.
    """
    data = setup.data
    if not data.is_image:
        raise DoesNotApply("near copies are looked for among images only")
    if not data.size("val") or data.stochastic:
        raise CannotProbe("there is no val split to compare with, or two reads of one example differ")
    rows = sample(setup, MOST_STREAMED if data.streams else MOST_TRAIN, "near train")
    at_once = min(CHUNK, per_chunk(data.input_shape))
    train = torch.cat([_chunk(data, "train", part) for part in rows.split(at_once)])
    if len(train) < 10 * NEIGHBOURS:
        raise CannotProbe(f"only {len(train)} train images")
    asked = sample(setup, ASKED, "near val", "val")
    val = torch.cat([_chunk(data, "val", indices) for indices in asked.split(at_once)])
    scale = train.std()
    train, val = train / scale, val / scale
    if float(scale) == 0:
        raise CannotProbe("the images are all the same")
    own = torch.linspace(0, len(train) - 1, min(ASKED, len(train))).long()
    apart = float(torch.cdist(val[:200], train[:: max(1, len(train) // 500)]).median())
    distances, places = _nearest(val, train, NEIGHBOURS)
    among = _nearest(train[own], train, NEIGHBOURS + 1)[0][:, 1:]
    dimension = _dimension(among)
    tenth = distances[:, -1:].clamp_min(1e-12)
    first = (val - train[places[:, 0]]).norm(dim=1)  # cdist is too coarse for examples that are equal
    exact = first <= 1e-4 * apart
    near = (first < CLOSE * tenth[:, 0]) & (first < NEAR * apart) & ~exact
    hits = near.nonzero().flatten()
    labels = data.targets("train")[rows[places[hits, 0]]]
    agreeing = float((labels == data.targets("val")[asked[hits]]).double().mean()) if len(hits) else None
    return NearCopies(
        asked=len(asked),
        train=len(train),
        near=len(hits),
        exact=int(exact.sum()),
        share=len(hits) / len(asked),
        expected=len(asked) * min(1.0, NEIGHBOURS * CLOSE**dimension),
        dimension=dimension,
        agreeing=agreeing,
        median_ratio=float((first / tenth[:, 0]).median()),
        first=[data.describe("train", int(rows[places[hits[0], 0]])), data.describe("val", int(asked[hits[0]]))]
        if len(hits)
        else None,
    )


def _chunk(data: Data, split: str, indices: Tensor) -> Tensor:
    """Return small pictures of raw images, each about its own mean, so that a change of brightness does not hide it."""
    pictures = small(data.inputs(split, indices))
    return pictures - pictures.mean(1, keepdim=True)


def _nearest(asked: Tensor, among: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return distances and places of the nearest examples, a chunk of them at a time."""
    best = torch.full((len(asked), count), math.inf)
    where = torch.zeros(len(asked), count, dtype=torch.long)
    for start in range(0, len(among), CHUNK):
        distances = torch.cdist(asked, among[start : start + CHUNK])
        places = torch.arange(start, start + distances.shape[1]).expand(len(asked), -1)
        both, kept = torch.cat([best, distances], 1).topk(count, 1, largest=False)
        best, where = both, torch.cat([where, places], 1).gather(1, kept)
    return best, where


def _dimension(distances: Tensor) -> float:
    """Estimate the dimension that the examples fill from the sorted distances to their neighbours.

    The nearer half is left out, which copies within train would make too near.
    """
    tenth, half = distances[:, -1:], distances[:, distances.shape[1] // 2 - 1 : -1]
    ratios = (tenth / half.clamp_min(1e-12)).log()
    ratios = ratios[torch.isfinite(ratios).all(1) & (tenth[:, 0] > 0)]
    # the distances from the m-th to the k-th neighbour: each log ratio to the k-th is beta distributed
    count = distances.shape[1]
    ranks = torch.arange(distances.shape[1] // 2, count, dtype=torch.double)
    expected = torch.tensor([sum(1.0 / j for j in range(int(m), count)) for m in ranks])
    total = float(ratios.double().mean(0).sum())
    return float(expected.sum()) / total if total > 0 else 0.0
