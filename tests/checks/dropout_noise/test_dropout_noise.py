"""How much of the answers in train mode is the input's."""

import pytest
from torch import nn

from tuner.checks.dropout_noise.evidence import DropoutNoise
from tuner.checks.dropout_noise.measure import dropout_noise
from tuner.checks.dropout_noise.rules import dropout_drowns_the_input
from tuner.checks.tools.frame import DoesNotApply


def dropped(*rates):
    layers = [item for rate in rates for item in (nn.Dropout(rate), nn.Linear(256, 256, bias=False))]
    return lambda: nn.Sequential(nn.Linear(20, 256), *layers, nn.Linear(256, 10))


@pytest.mark.parametrize("rate", [0.6, 0.9])
def test_a_linear_layer_that_keeps_a_share_of_its_inputs_keeps_that_share_of_the_variance(setup_of, blobs, rate):
    found = dropout_noise(setup_of(blobs(), dropped(rate)))
    assert found.shared == pytest.approx(1 - rate, abs=0.1)
    assert dropout_drowns_the_input(found) is None


def test_two_layers_that_drop_nine_tenths_drown_the_input(setup_of, blobs):
    found = dropout_noise(setup_of(blobs(), dropped(0.9, 0.95)))
    assert found.shared < 0.03 and list(found.rates.values()) == [0.95, 0.9]
    assert "a rate of 0.95 at 3" in dropout_drowns_the_input(found).title


def test_rates_of_a_half_are_not_asked_about(setup_of, blobs):
    with pytest.raises(DoesNotApply, match="no rate of dropout is above a half"):
        dropout_noise(setup_of(blobs(), dropped(0.5, 0.5)))


@pytest.mark.parametrize(("shared", "fires"), [(0.05, False), (0.049, True)])
def test_less_than_a_twentieth_in_common_is_too_little(shared, fires):
    assert (dropout_drowns_the_input(DropoutNoise(shared, {"drop": 0.9}, 8, 128)) is not None) == fires
