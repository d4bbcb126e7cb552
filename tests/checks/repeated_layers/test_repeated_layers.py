"""One layer at several places of a list."""

from torch import nn

from tests.checks.asking import ask
from tuner.checks.repeated_layers.measure import repeated_layers
from tuner.checks.repeated_layers.rules import one_layer_many_times


def test_a_list_that_is_multiplied_holds_one_layer(setup_of, blobs):
    found = repeated_layers(setup_of(blobs(), lambda: nn.Sequential(*[nn.Linear(20, 20)] * 3, nn.Linear(20, 10))))
    assert found.groups == [["0", "1", "2"]]
    finding = ask(one_layer_many_times, found)
    assert finding.severity == "note" and "0, 1, 2 are one and the same layer" in finding.title


def test_activations_are_shared_freely_and_tied_weights_are_no_list(setup_of, blobs):
    def model():
        relu, first, last = nn.ReLU(), nn.Linear(20, 20), nn.Linear(20, 20)
        last.weight = first.weight
        return nn.Sequential(first, relu, last, relu, nn.Linear(20, 10))

    assert repeated_layers(setup_of(blobs(), model)).groups == []
    assert ask(one_layer_many_times, repeated_layers(setup_of(blobs(), model))) is None
