import math

import pytest
import torch

from tuner.checks.tools import forwards
from tuner.checks.tools.forwards import Units


@pytest.mark.parametrize("at_once", [1, 7, 1 << 20])
def test_sums_of_units_are_those_of_torch(at_once, monkeypatch):
    monkeypatch.setattr(forwards, "AT_ONCE", at_once)
    values = torch.relu(torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) + torch.linspace(-3, 30, 6))
    found = Units.of(values)
    wide = values.double()
    assert torch.allclose(found.mean, wide.mean(0), rtol=1e-6)
    assert found.spread == pytest.approx(float(wide.std(0).mean()), rel=1e-6)
    assert found.std == pytest.approx(float(wide.std()), rel=1e-6)
    assert found.zeros.tolist() == (values == 0).sum(0).tolist()
    assert found.zeros.max() > 0


def test_a_single_observation_has_no_spread():
    found = Units.of(torch.ones(1, 1))
    assert found.spread is None
    assert math.isnan(found.std)
