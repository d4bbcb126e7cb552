"""The scale of losses over cosines, against the number of classes."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.checks.probe_models import mlp
from tuner.checks.cosine_scale.evidence import CosineScale
from tuner.checks.cosine_scale.measure import cosine_scale
from tuner.checks.cosine_scale.rules import steeper_than_the_classes_need
from tuner.checks.tools.frame import DoesNotApply
from tuner.parts.head import cosine
from tuner.parts.losses.classification import arcface, cosface


def cosines():
    return nn.Sequential(nn.Linear(20, 16), nn.ReLU(), cosine(16, 10))


@pytest.mark.parametrize("scale", [16.0, 64.0])
@pytest.mark.parametrize("loss", [arcface, cosface])
def test_the_scale_is_the_losses_own(setup_of, blobs, loss, scale):
    found = cosine_scale(setup_of(blobs(), cosines, loss=lambda outputs, targets: loss(outputs, targets, s=scale)))
    assert found.scale == pytest.approx(scale, rel=1e-3)
    assert found.fitted == pytest.approx(math.sqrt(2) * math.log(9))
    assert (steeper_than_the_classes_need(found) is not None) == (scale == 64.0)


@pytest.mark.parametrize("model", [mlp(), lambda: nn.Sequential(nn.Linear(20, 10), nn.Tanh())])
def test_scores_that_the_head_can_lengthen_are_no_cosines(setup_of, blobs, model):
    with pytest.raises(DoesNotApply, match="no cosines"):
        cosine_scale(setup_of(blobs(), model))


def test_a_model_without_a_linear_layer_is_left_alone(setup_of, blobs):
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(0.01 * torch.ones(20, 10))

        def forward(self, inputs):
            return (inputs @ self.weight).tanh()

    with pytest.raises(DoesNotApply, match="no cosines"):
        cosine_scale(setup_of(blobs(), Bare))


def test_two_classes_have_no_such_scale(setup_of, blobs):
    inputs, targets = blobs()
    two = inputs, targets % 2
    with pytest.raises(DoesNotApply, match="three or more classes"):
        cosine_scale(setup_of(two, lambda: cosine(20, 2), loss=functional.cross_entropy))


@pytest.mark.parametrize(("times", "fires"), [(9.99, False), (10.0, True)])
def test_ten_times_adacos_is_steep(times, fires):
    assert (steeper_than_the_classes_need(CosineScale(10, 4.0 * times, 4.0)) is not None) == fires
