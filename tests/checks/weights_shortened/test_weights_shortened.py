"""What follows an update, tried on the first weights."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tuner.checks.tools.frame import DoesNotApply
from tuner.checks.weights_shortened.evidence import WeightsShortened
from tuner.checks.weights_shortened.measure import weights_shortened
from tuner.checks.weights_shortened.rules import shortened_from_the_start
from tuner.parts.after_update import max_norm
from tuner.train.points import Part


def net(norm=False):
    def build():
        layers = [nn.Linear(20, 16, bias=False), *([nn.BatchNorm1d(16)] if norm else []), nn.Linear(16, 10, bias=False)]
        for layer in layers[:: len(layers) - 1]:
            nn.init.orthogonal_(layer.weight)  # each unit has length 1
        return nn.Sequential(*layers)

    return build


def limited(setup, limit):
    setup.parts = (Part("after_update", max_norm, {"limit": limit}, "train.max_norm", Path()),)
    return weights_shortened(setup)


def test_of_the_outputs_spread_the_product_of_the_layers_lengths_is_left(setup_of, blobs):
    found = limited(setup_of(blobs(), net()), 0.2)
    assert found.shortened == 1.0
    assert found.length == pytest.approx(0.2, rel=1e-4) and found.left == pytest.approx(0.04, rel=1e-3)
    assert shortened_from_the_start(found).cause == "over-regularised"


def test_layers_in_front_of_batch_norm_may_be_short(setup_of, blobs):
    found = limited(setup_of(blobs(), net(norm=True)), 0.2)
    assert found.left == pytest.approx(0.2, rel=0.01) and shortened_from_the_start(found) is None


def test_a_limit_that_the_first_weights_keep_shortens_none(setup_of, blobs):
    assert limited(setup_of(blobs(), net()), 3.0) == WeightsShortened(0.0, None, pytest.approx(1.0))


def test_a_recipe_that_leaves_the_weights_alone_is_not_asked(setup_of, blobs):
    with pytest.raises(DoesNotApply, match="nothing is done to the weights"):
        weights_shortened(setup_of(blobs(), net()))


@pytest.mark.parametrize(("left", "shortened", "fires"), [(0.1, 1.0, False), (0.099, 1.0, True), (0.01, 0.0, False)])
def test_less_than_a_tenth_of_the_spread_is_too_little(left, shortened, fires):
    assert (shortened_from_the_start(WeightsShortened(shortened, 0.3, left)) is not None) == fires


def test_outputs_of_zeros_are_not_compared(setup_of):
    def zeros():
        layer = nn.Linear(20, 10)
        nn.init.zeros_(layer.bias)
        nn.init.zeros_(layer.weight)
        return layer

    data = torch.randn(64, 20, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 10
    assert limited(setup_of(data, zeros), 0.1).left is None
