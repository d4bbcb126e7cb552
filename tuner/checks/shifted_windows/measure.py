"""Examples of val that were made from the same source as one of train: in space, and shifted in time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.checks.shifted_windows.evidence import ShiftedWindows
from tuner.checks.tools.frame import CannotProbe, DoesNotApply, gathered, of_data_alone, sample
from tuner.train.setup import Setup

MOST, ASKED = 6000, 400  # examples of train and of val
SHORTEST = 24  # steps of a sequence
BLOCK = 4  # a block is a quarter of the sequence
ALIKE = 1e-3
TURNS = 3  # random numbers that stand for a block


@of_data_alone
def shifted_windows(setup: Setup) -> ShiftedWindows:
    """Look for a block of each val sequence, a quarter of its length, in the train sequences, at any other place.

    A block is known by a few random numbers: its inner products, without its mean and over its spread, with fixed
    random blocks. Sequences are (channels, steps) or (steps,), of 24 steps or more; of others none is asked.
    """
    data = setup.data
    shape = data.input_shape
    if len(shape) not in (1, 2) or shape[-1] < SHORTEST or data.feature_names:
        return ShiftedWindows(asked=0, shifted=0.0)
    if not data.size("val") or data.stochastic:
        raise CannotProbe("there is no val split to compare with, or two reads of one example differ")
    kept, asked = sample(setup, MOST, "windows train"), sample(setup, ASKED, "windows val", "val")
    (inputs, targets), (others, labels) = gathered(setup, "train", kept), gathered(setup, "val", asked)
    if not inputs.is_floating_point():
        raise DoesNotApply("the inputs are whole numbers, which repeat by nature")
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
    return ShiftedWindows(
        asked=len(val), shifted=hits / max(len(val), 1), agreeing=agreeing / hits if hits else None, first=pair
    )


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
