"""Labels of mixed examples against what the examples are made of."""

import pytest
import torch

from tests.checks.probe_models import mlp
from tuner.checks.cards import Missing
from tuner.checks.mixed_shares.evidence import MixedShares
from tuner.checks.mixed_shares.measure import mixed_shares
from tuner.checks.mixed_shares.rules import shared_the_wrong_way_round
from tuner.checks.tools.frame import DoesNotApply
from tuner.parts.augment.blending import cutmix, mixup


def images():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(256, 1, 8, 8, generator=generator), torch.arange(256) % 4


def augmenting(blend, swapped=False):
    generator = torch.Generator().manual_seed(1)

    def augment(inputs, targets):
        mixed, shares = blend(inputs, targets, generator, 4, alpha=1.0)
        two = (shares > 0).sum(1, keepdim=True) == 2
        return mixed, torch.where(two & (shares > 0), 1 - shares, shares) if swapped else shares

    return augment


@pytest.mark.parametrize("blend", [mixup, cutmix])
def test_shares_of_the_parts_are_those_of_their_values(setup_of, blend):
    found = mixed_shares(setup_of(images(), mlp(), data={"augment": augmenting(blend)}))
    assert found.examples > 100 and found.correlation > 0.99
    assert shared_the_wrong_way_round(found) is None


@pytest.mark.parametrize("blend", [mixup, cutmix])
def test_shares_that_are_exchanged_are_an_error(setup_of, blend):
    found = mixed_shares(setup_of(images(), mlp(), data={"augment": augmenting(blend, swapped=True)}))
    assert found.correlation < -0.99
    assert shared_the_wrong_way_round(found).cause == "misaligned-labels"


def test_labels_of_one_class_are_not_asked_about(setup_of):
    with pytest.raises(DoesNotApply, match="no shares of classes"):
        mixed_shares(setup_of(images(), mlp(), data={"augment": lambda inputs, targets: (inputs.flip(3), targets)}))


def test_a_recipe_without_augmentation_is_not_asked(setup_of):
    with pytest.raises(DoesNotApply, match="augments nothing"):
        mixed_shares(setup_of(images(), mlp()))


@pytest.mark.parametrize(
    ("examples", "correlation", "fires"), [(100, -0.5, False), (100, -0.6, True), (100, 0.6, False)]
)
def test_below_0_by_six_standard_errors_is_certain(examples, correlation, fires):
    assert (
        shared_the_wrong_way_round(MixedShares(examples, correlation)) is not None
    ) == fires  # atanh(.544) sqrt(97)=6


@pytest.mark.parametrize(("examples", "correlation", "why"), [(29, -1.0, "too few"), (30, None, "mixed alike")])
def test_too_little_that_is_known_says_nothing(examples, correlation, why):
    with pytest.raises(Missing, match=why):
        shared_the_wrong_way_round(MixedShares(examples, correlation))
