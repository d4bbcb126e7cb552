"""Examples of val that were made from the same source as one of train: in space, and shifted in time."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tuner.checks.relatives.evidence import Relatives
from tuner.checks.tools.examples import pictured
from tuner.checks.tools.features import Scaler, small
from tuner.checks.tools.frame import CannotProbe, DoesNotApply, gathered, of_data_alone, sample
from tuner.train.setup import Setup

MOST, ASKED = 6000, 400  # examples of train and of val
RANKS = (10, 30)  # neighbours among which the nearest is judged; relatives are fewer than these
WIDER = (2, 8)  # times the rank: where the dimension is measured, beyond any relatives
RARE = 1e-3  # chance of a nearest neighbour as near as that, in examples that were drawn one by one
EQUAL = 1e-5  # of the typical distance: copies, which other checks count


@of_data_alone
def relatives(setup: Setup) -> Relatives:
    """Ask how near the nearest train example of each val example is, for the dimension that examples fill further out.

    Where examples are drawn one by one, the nearest of k is r times nearer than the k-th with probability 1 - (1 -
    r**d)**(k - 1) in d dimensions, whatever they are; clusters lower d as measured and so make this larger. Examples
    that are equal are left out (`equal`).
    """
    data = setup.data
    if not data.size("val") or data.stochastic:
        raise CannotProbe("there is no val split to compare with, or two reads of one example differ")
    kept, asked = sample(setup, MOST, "relatives train"), sample(setup, ASKED, "relatives val", "val")
    if not gathered(setup, "train", kept[:1])[0].is_floating_point():
        raise DoesNotApply("the inputs are whole numbers: their distances mean nothing")
    if len(kept) < RANKS[0] * WIDER[1] * 2:
        raise CannotProbe(f"only {len(kept)} train examples")
    (features,), targets = pictured(setup, "train", kept, small)
    (others,), labels = pictured(setup, "val", asked, small)
    scale = Scaler.of(features)
    low, high = features.amin(0), features.amax(0)
    if bool(((features == low) | (features == high)).all()):
        raise DoesNotApply("every input is one of two values: distances are counts, and small ones are common")
    train, val = scale(features), scale(others)
    own = torch.linspace(0, len(train) - 1, min(ASKED, len(train))).long()
    found = [_at_rank(train, val, rank) for rank in RANKS if rank * WIDER[1] * 2 <= len(train)]
    best = max(found, key=lambda item: int(item["hits"].sum()))
    among = max(_at_rank(train, train[own], item["rank"], skip=1)["rare"] for item in found)
    hits = best["hits"].nonzero().flatten()
    agreeing = targets[best["places"][hits]] == labels[hits] if len(hits) else None
    pair = [int(kept[best["places"][hits[0]]]), int(asked[hits[0]])] if len(hits) else None
    return Relatives(
        asked=len(val),
        train=len(train),
        rank=best["rank"],
        dimension=best["dimension"],
        hits=len(hits),
        rare=best["rare"],
        rare_in_train=among,
        equal=best["equal"],
        agreeing=None if agreeing is None else float(agreeing.double().mean()),
        first=[data.describe("train", pair[0]), data.describe("val", pair[1])] if pair else None,
    )


def _at_rank(train: Tensor, asked: Tensor, rank: int, skip: int = 0) -> dict[str, Any]:
    """Judge the nearest of `rank` neighbours; `skip`: neighbours to leave out, an example's own self."""
    low, high = rank * WIDER[0], rank * WIDER[1]
    distances, places = torch.cdist(asked, train).topk(high + skip, 1, largest=False)
    distances, places = distances[:, skip:].double(), places[:, skip:]
    distances[:, 0] = (asked - train[places[:, 0]]).double().norm(dim=1)  # cdist is too coarse for equal examples
    equal = distances[:, 0] <= EQUAL * float(distances[:, rank - 1].median())
    ratio = (distances[:, 0] / distances[:, rank - 1].clamp_min(1e-12)).clamp(0, 1)
    wider = (distances[~equal, high - 1] / distances[~equal, low - 1].clamp_min(1e-12)).log().mean()
    dimension = math.log(high / low) / float(wider) if float(wider) > 0 else 0.0
    chance = 1 - (1 - ratio**dimension) ** (rank - 1)
    hits = (chance < RARE) & ~equal
    asked_for = max(int((~equal).sum()), 1)
    return {
        "rank": rank,
        "hits": hits,
        "rare": int(hits.sum()) / asked_for,
        "dimension": dimension,
        "equal": int(equal.sum()),
        "places": places[:, 0],
    }
