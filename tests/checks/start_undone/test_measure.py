import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from tuner.checks.start_undone.measure import start_undone


class Cosines(nn.Module):
    """Cosines between features and one direction per class, times `scale`."""

    def __init__(self, scale):
        super().__init__()
        self.body, self.directions, self.scale = nn.Linear(20, 16), nn.Parameter(torch.randn(10, 16)), scale

    def forward(self, inputs):
        return self.scale * functional.normalize(self.body(inputs)) @ functional.normalize(self.directions).T


@pytest.mark.parametrize(
    ("scale", "lr", "undone"),
    [(1, 0.01, [0]), (20, 0.02, range(1, 20)), (20, 1e-6, [None])],
    ids=["not too high", "a head of some scale", "a rate that moves nothing"],
)
def test_a_start_that_is_too_high_is_undone_at_a_rate_that_learns(setup_of, blobs, scale, lr, undone):
    found = start_undone(
        setup_of(blobs(), lambda: Cosines(scale), optimizer=torch.optim.Adam, optimizer_table={"lr": lr})
    )
    assert found.updates in undone
    assert found.uniform == pytest.approx(math.log(10), abs=1e-5)
    assert (found.first > 2 * found.uniform) == (scale > 1)
