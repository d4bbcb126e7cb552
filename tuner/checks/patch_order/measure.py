"""Does the model know where in the image a part of it was? Asked by putting the parts elsewhere."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tuner.checks.patch_order.evidence import PatchOrder
from tuner.checks.tools.cost import affordable
from tuner.checks.tools.evaluations import _differs
from tuner.checks.tools.frame import (
    CannotProbe,
    DoesNotApply,
    before_training,
    forward,
    one_batch,
    random_state,
    shaken_model,
)
from tuner.core.streams import derive_seed
from tuner.train.setup import Setup

IMAGES = 4
FEWEST = 4  # patches that can change places


@before_training
def patch_order(setup: Setup) -> PatchOrder:
    """Cut images into square patches, put them in another order, and compare the outputs of the model in eval mode.

    Every side that divides height and width and leaves four patches or more is asked. The model is fresh, with a little
    noise on all weights, so that positions that start at zero count.
    """
    if not setup.data.is_image:
        raise DoesNotApply("the inputs are no images")
    images, _ = one_batch(setup, affordable(setup, IMAGES), "patch_order")
    high, wide = images.shape[2:]
    model = shaken_model(setup).eval()
    asked = [side for side in range(1, math.gcd(high, wide) + 1) if high % side == wide % side == 0]
    asked = [side for side in asked if high * wide // side**2 >= FEWEST]
    if not asked or len(images) < 2:
        raise CannotProbe("the images cannot be cut into four equal squares, or there is only one")

    def run(given: Tensor) -> Tensor:
        with random_state(0):
            return forward(model, given)

    plain = run(images)
    differ = {side: _differs(run(_moved(images, side, setup.spec.seed)), plain) for side in asked}
    return PatchOrder({str(side): differ[side] for side in asked if side > 1}, differ.get(1), (high, wide))


def _moved(images: Tensor, side: int, seed: int) -> Tensor:
    """Return images whose patches of `side` x `side` pixels stand in another order, the same for all images."""
    count, channels, high, wide = images.shape
    rows, columns = high // side, wide // side
    patches = images.reshape(count, channels, rows, side, columns, side).permute(2, 4, 0, 1, 3, 5)
    generator = torch.Generator().manual_seed(derive_seed(seed, "probe", "patch order"))
    order = torch.randperm(rows * columns, generator=generator).to(images.device)
    moved = patches.reshape(rows * columns, count, channels, side, side)[order]
    moved = moved.reshape(rows, columns, count, channels, side, side).permute(2, 3, 0, 4, 1, 5)
    return moved.reshape(images.shape)
