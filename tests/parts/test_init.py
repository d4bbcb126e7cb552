import math

import pytest
import torch
from torch import nn

from tuner.parts import init
from tuner.recipe.registry import built_ins


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(16, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "conv", "hidden", "head"),  # standard deviations from the papers' formulas
    [
        (init.kaiming_normal, math.sqrt(2 / 144), math.sqrt(2 / 64), math.sqrt(1 / 300)),
        (init.kaiming_uniform, math.sqrt(2 / 144), math.sqrt(2 / 64), math.sqrt(1 / 300)),
        (init.xavier_normal, math.sqrt(2 / (144 + 576)), math.sqrt(2 / 364), math.sqrt(2 / 400)),
        (init.xavier_uniform, math.sqrt(2 / (144 + 576)), math.sqrt(2 / 364), math.sqrt(2 / 400)),
        (init.normal, 0.01, 0.01, 0.01),
    ],
)
def test_a_rule_draws_weights_of_its_spread(rule, conv, hidden, head):
    model = net()
    rule(model)
    found = [model[index].weight.std().item() for index in (0, 5, 7)]
    assert found == pytest.approx([conv, hidden, head], rel=0.03)


def test_orthogonal_weights_keep_lengths_times_the_gain():
    model = net()
    init.orthogonal(model)
    hidden, head = model[5].weight, model[7].weight
    assert torch.allclose(hidden.T @ hidden, 2 * torch.eye(64), atol=1e-4)
    assert torch.allclose(head @ head.T, torch.eye(100), atol=1e-4)


@pytest.mark.parametrize("name", sorted(set(built_ins("init")) - {"zeros_head", "prior_head", "lsuv", "fixup"}))
def test_biases_become_zero_and_normalisation_keeps_its_own(name):
    model = net()
    nn.init.constant_(model[1].weight, 0.7)
    nn.init.constant_(model[1].bias, 0.3)
    getattr(init, name)(model)
    assert all(float(model[index].bias.abs().sum()) == 0 for index in (0, 5, 7))
    assert model[1].weight.unique().tolist() == pytest.approx([0.7])
    assert model[1].bias.unique().tolist() == pytest.approx([0.3])


def test_zeros_head_gives_uniform_outputs_and_leaves_the_rest():
    model, untouched = net(), net()
    init.zeros_head(model)
    assert torch.equal(model(torch.rand(2, 16, 8, 8)), torch.zeros(2, 100))
    assert torch.equal(model[5].weight, untouched[5].weight)
    assert torch.equal(model[5].bias, untouched[5].bias)
