import pytest
import torch
from torch import nn

from tuner.checks.patch_order.measure import patch_order
from tuner.checks.tools.frame import CannotProbe


class Patches(nn.Module):
    """Patches of 4 x 4 pixels, looked at one by one and averaged; with a position of its own for each, or none."""

    def __init__(self, positions):
        super().__init__()
        self.embed, self.head = nn.Conv2d(1, 16, 4, stride=4), nn.Linear(16, 10)
        self.positions = nn.Parameter(torch.zeros(1, 16, 4)) if positions else 0

    def forward(self, images):
        patches = self.embed(images).flatten(2)
        return self.head((patches + self.positions).tanh().mean(2))


def images(side=8):
    return torch.randn(40, 1, side, side, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 10


def test_patches_without_a_position_may_change_places_and_pixels_may_not(setup_of):
    found = patch_order(setup_of(images(), lambda: Patches(False)))
    assert found.differ["4"] < 1e-5
    assert found.differ["2"] > 0.1
    assert found.pixels > 0.1


def test_positions_that_start_at_zero_count(setup_of):
    assert patch_order(setup_of(images(), lambda: Patches(True))).differ["4"] > 1e-3


def test_only_whole_squares_are_asked(setup_of):
    def flat():
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 10))

    assert set(patch_order(setup_of(images(6), flat)).differ) == {"2", "3"}


def test_rows_of_a_table_have_no_patches(setup_of, blobs):
    with pytest.raises(CannotProbe, match="no images"):
        patch_order(setup_of(blobs(), lambda: nn.Linear(20, 10)))
