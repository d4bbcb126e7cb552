import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.checks.asking import judged
from tests.checks.probe_models import mlp, zero
from tuner.checks.layers.measure import layers
from tuner.checks.rescaled_start.measure import _rescale, rescaled_start


def test_layers_find_dead_and_saturated_units(setup_of, blobs):
    def build():
        model = nn.Sequential(nn.Linear(20, 4), nn.ReLU(), nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 10))
        nn.init.constant_(model[0].bias[:3], -1e3)
        nn.init.constant_(model[2].bias, 50.0)
        return model

    found = {layer.name: layer for layer in layers(setup_of(blobs(), build)).layers}
    assert list(found) == ["0", "1", "2", "3", "4"]
    assert found["1"].dead_fraction == 0.75
    assert found["2"].dead_input_fraction == 0.75
    assert found["3"].saturated_fraction == 1.0
    assert found["4"].saturated_fraction is None


def test_layers_measure_what_torch_measures(setup_of, blobs):
    setup = setup_of(blobs(32), mlp(), batch_size=32)
    found = layers(setup).layers[0]
    model = setup.model()
    outputs = model[0](setup.data.inputs("train"))
    F.cross_entropy(model(setup.data.inputs("train")), setup.data.targets("train")).backward()
    assert found.activation_std == pytest.approx(float(outputs.detach().std()), rel=1e-5)
    norm = torch.cat([p.grad.flatten() for p in model[0].parameters()]).norm()
    assert found.grad_norm == pytest.approx(float(norm), rel=1e-4)


def test_layers_call_constant_weights_symmetric_and_zero_weights_not(setup_of, blobs):
    def build():
        model = mlp(head=zero)()
        nn.init.constant_(model[0].weight, 0.1)
        return model

    found = layers(setup_of(blobs(), build)).layers
    assert [layer.symmetric for layer in found] == [True, None, False]


def deep(activation, depth, scale=None):
    def build():
        layers = [nn.Linear(20, 32), activation()]
        for _ in range(depth - 1):
            layers += [nn.Linear(32, 32), activation()]
        model = nn.Sequential(*layers, nn.Linear(32, 10))
        for layer in model[::2] if scale else ():
            nn.init.normal_(layer.weight, std=scale / math.sqrt(layer.in_features))
            nn.init.zeros_(layer.bias)
        return model

    return build


def started(setup):
    probe = rescaled_start(setup)
    return probe, {finding.code for finding in judged("check-init", {"rescaled_start": probe})[0]}


@pytest.mark.parametrize("build", [deep(nn.Sigmoid, 5), deep(nn.ReLU, 8, scale=0.3), deep(nn.Tanh, 8, scale=0.1)])
def test_a_start_that_only_other_sizes_of_the_weights_make_is_found(setup_of, blobs, build):
    found, codes = started(setup_of(blobs(512), build, optimizer_table={"momentum": 0.9}))
    assert found.left < 0.05
    assert not found.as_is.learns and found.as_is.steps == 200
    assert found.as_is.lowest == pytest.approx(found.level, rel=0.03)
    assert found.rescaled.learns and found.rescaled.steps <= 100
    assert "IN136" in codes


def test_a_signal_that_holds_is_not_asked_further(setup_of, blobs):
    for build in (mlp(), mlp(head=zero), deep(nn.ReLU, 8, scale=math.sqrt(2)), lambda: nn.Linear(20, 10)):
        found, codes = started(setup_of(blobs(), build))
        assert not found.tried and "IN136" not in codes


def test_a_faded_signal_that_learns_all_the_same_is_sound(setup_of, blobs):
    found, codes = started(
        setup_of(blobs(512), deep(nn.ReLU, 5), **{"optimizer": torch.optim.Adam, "optimizer_table": {"lr": 0.003}})
    )
    assert found.tried and found.as_is.learns and "IN136" not in codes


def test_a_rate_that_moves_nothing_is_no_matter_of_the_init(setup_of, blobs):
    found, codes = started(setup_of(blobs(512), deep(nn.Sigmoid, 5), optimizer_table={"lr": 1e-6}))
    assert not found.as_is.learns and not found.rescaled.learns and "IN136" not in codes


def test_layers_are_rescaled_to_unit_spread_also_those_of_images():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3, bias=False), nn.Flatten(), nn.Sigmoid(), nn.Linear(64, 5)
    )
    seen = []
    inputs = 7 * torch.randn(40, 3, 8, 8) + 3
    _rescale(model, inputs)
    for place in (0, 2, 5):
        model[place].register_forward_hook(lambda module, given, outputs: seen.append(outputs.detach()))
    model(inputs)
    assert len(seen) == 3
    for outputs in seen:
        units = outputs.movedim(1, -1).flatten(0, -2)
        assert float(units.std(0).mean()) == pytest.approx(1, abs=1e-3)
    assert seen[0].movedim(1, -1).flatten(0, -2).mean(0).abs().max() < 1e-3


def test_places_of_a_flattened_image_are_counted_by_channel(setup_of):
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4 * 36, 2)
            self.conv.bias.data[:] = torch.tensor([0.0, 0.0, 0.0, -100.0])

        def forward(self, inputs):
            return self.fc(torch.relu(self.conv(inputs)).flatten(1))

    inputs = torch.randn(64, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    inputs[:, :, :4] = 0.0  # most places are dark in every image
    entries = {entry.name: entry for entry in layers(setup_of((inputs, torch.arange(64) % 2), Flat)).layers}
    assert entries["fc"].dead_input_fraction == 0.25
