"""Examples of val that were made from the same source as one of train: in space, and shifted in time."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.train.probes._features import Scaler, small
from tuner.train.probes._frame import CannotProbe, before_training, gathered, sample

MOST, ASKED = 6000, 400  # examples of train and of val
RANKS = (10, 30)  # neighbours among which the nearest is judged; relatives are fewer than these
WIDER = (2, 8)  # times the rank: where the dimension is measured, beyond any relatives
RARE = 1e-3  # chance of a nearest neighbour as near as that, in examples that were drawn one by one
EQUAL = 1e-5  # of the typical distance: copies, which other checks count
SHORTEST = 24  # steps of a sequence
BLOCK = 4  # a block is a quarter of the sequence
ALIKE = 1e-3
TURNS = 3  # random numbers that stand for a block


@before_training
def relatives(setup: Any) -> dict[str, Any]:
    """Ask how near the nearest train example of each val example is, for the dimension that examples fill further out.

    Where examples are drawn one by one, the nearest of k is r times nearer than the k-th with probability
    1 - (1 - r**d)**(k - 1) in d dimensions, whatever they are; clusters lower d as measured and so make this larger.
    `rare`: the share of val for which that is below 0.001 (expected: 0.001), `agreeing`: of these, those with the
    label of the nearest; `rare_in_train`: the same among train examples; `rank`: the k that gives most. Examples that
    are equal are left out (`equal`).
    """
    data = setup.data
    if not data.size("val") or data.stochastic:
        raise CannotProbe("there is no val split to compare with, or two reads of one example differ")
    kept, asked = sample(setup, MOST, "relatives train"), sample(setup, ASKED, "relatives val", "val")
    (inputs, targets), (others, labels) = gathered(setup, "train", kept), gathered(setup, "val", asked)
    if not inputs.is_floating_point():
        raise CannotProbe("the inputs are whole numbers: their distances mean nothing")
    if len(inputs) < RANKS[0] * WIDER[1] * 2:
        raise CannotProbe(f"only {len(inputs)} train examples")
    scale = Scaler.of(features := small(inputs))
    train, val = scale(features), scale(small(others))
    own = torch.linspace(0, len(train) - 1, min(ASKED, len(train))).long()
    found = [_at_rank(train, val, rank) for rank in RANKS if rank * WIDER[1] * 2 <= len(train)]
    best = max(found, key=lambda item: int(item["hits"].sum()))
    among = max(_at_rank(train, train[own], item["rank"], skip=1)["rare"] for item in found)
    hits = best["hits"].nonzero().flatten()
    agreeing = targets.cpu()[best["places"][hits]] == labels.cpu()[hits] if len(hits) else None
    pair = [int(kept[best["places"][hits[0]]]), int(asked[hits[0]])] if len(hits) else None
    return {
        "asked": len(val),
        "train": len(train),
        "rank": best["rank"],
        "dimension": best["dimension"],
        "hits": len(hits),
        "rare": best["rare"],
        "rare_in_train": among,
        "equal": best["equal"],
        "agreeing": None if agreeing is None else float(agreeing.double().mean()),
        "first": [data.describe("train", pair[0]), data.describe("val", pair[1])] if pair else None,
    }


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


@before_training
def shifted_windows(setup: Any) -> dict[str, Any]:
    """Look for a block of each val sequence, a quarter of its length, in the train sequences, at any other place.

    A block is known by a few random numbers: its inner products, without its mean and over its spread, with fixed
    random blocks. `shifted`: the share of val sequences with such a block at another place of a train sequence;
    `agreeing`: of these, those with that sequence's label. Sequences are (channels, steps) or (steps,).
    """
    data = setup.data
    shape = data.input_shape
    if len(shape) not in (1, 2) or shape[-1] < SHORTEST or data.feature_names:
        raise CannotProbe(f"inputs of shape {tuple(shape)} are no sequences of {SHORTEST} steps or more")
    if not data.size("val") or data.stochastic:
        raise CannotProbe("there is no val split to compare with, or two reads of one example differ")
    kept, asked = sample(setup, MOST, "windows train"), sample(setup, ASKED, "windows val", "val")
    (inputs, targets), (others, labels) = gathered(setup, "train", kept), gathered(setup, "val", asked)
    if not inputs.is_floating_point():
        raise CannotProbe("the inputs are whole numbers, which repeat by nature")
    train, val = (item.cpu().double().reshape(len(item), -1, shape[-1]) for item in (inputs, others))
    width = shape[-1] // BLOCK
    known, given = _signs(train, width), _signs(val, width)
    places = given.shape[1]
    own = [places // 4, places // 2, 3 * places // 4]  # blocks of a val sequence that are looked for
    order = known[..., 0].flatten().argsort()
    flat = known.reshape(-1, TURNS)[order]
    firsts = flat[:, 0].contiguous()
    hits, agreeing, pair = 0, 0, None
    for row in range(len(val)):
        match = next(
            (found for at in own if (found := _elsewhere((firsts, flat, order), given[row, at], at, places))), None
        )
        if match is None:
            continue
        hits += 1
        agreeing += int(targets[match[0]] == labels[row])
        pair = pair or [data.describe("train", int(kept[match[0]])), data.describe("val", int(asked[row]))]
    return {
        "asked": len(val),
        "shifted": hits / max(len(val), 1),
        "agreeing": agreeing / hits if hits else None,
        "first": pair,
    }


def _signs(sequences: Tensor, width: int) -> Tensor:
    """Return (examples, places, TURNS): random numbers for the block at each place; NaN where it is flat."""
    channels = sequences.shape[1]
    generator = torch.Generator().manual_seed(0)
    kernels = torch.randn(TURNS, channels, width, generator=generator).double()
    kernels -= kernels.mean((1, 2), keepdim=True)
    ones = torch.ones(1, channels, width).double() / (channels * width)
    mean, square = F.conv1d(sequences, ones), F.conv1d(sequences.square(), ones)
    spread = (square - mean.square()).clamp_min(0).sqrt()
    flat = spread <= 1e-6 * sequences.abs().amax((1, 2), keepdim=True).clamp_min(1e-12)
    return (F.conv1d(sequences, kernels) / spread.masked_fill(flat, torch.nan)).transpose(1, 2)


def _elsewhere(known: tuple[Tensor, Tensor, Tensor], sign: Tensor, place: int, places: int) -> tuple[int, int] | None:
    """Return the train sequence and the place that hold a block with these numbers, at another place than `place`.

    `known`: the first numbers of all blocks, ascending; all their numbers, in that order; and which block each is.
    """
    firsts, flat, order = known
    if not bool(sign.isfinite().all()):
        return None
    low, high = (int(torch.searchsorted(firsts, sign[0] + side * ALIKE)) for side in (-1, 1))
    near = ((flat[low:high] - sign).abs() < ALIKE).all(1).nonzero().flatten() + low
    for index in order[near[:64]].tolist():
        if index % places != place:
            return index // places, index % places
    return None
