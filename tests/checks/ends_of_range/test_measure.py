import pytest
import torch

from tests.checks.probe_models import mlp
from tuner.checks.ends_of_range.measure import ends_of_range
from tuner.checks.tools.frame import CannotProbe


def shades(contrast):
    """Return colour images whose values are normal about the middle, cut off to 0..255 after a contrast is applied."""
    generator = torch.Generator().manual_seed(0)
    values = 128 + 40 * contrast * torch.randn(64, 3, 12, 12, generator=generator)
    return values.clamp(0, 255).round(), torch.arange(64) % 2


def test_a_contrast_piles_values_up_at_both_ends(setup_of):
    found = ends_of_range(setup_of(shades(6), mlp()))
    beyond = 2 * (1 - torch.distributions.Normal(0, 1).cdf(torch.tensor(127.75 / 240)))  # of a normal variable
    assert found.at_low + found.at_high == pytest.approx(float(beyond), abs=0.02)
    assert found.levels > 200


def test_shades_within_the_range_leave_its_ends_alone(setup_of):
    found = ends_of_range(setup_of(shades(0.5), mlp()))
    assert found.at_low + found.at_high < 0.001


def test_black_on_white_is_left_out_and_what_is_coloured_is_counted(setup_of):
    images, targets = shades(0.5)
    images[:, :, :, 6:] = 255
    found = ends_of_range(setup_of((images, targets), mlp()))
    assert found.coloured == pytest.approx(0.5, abs=0.01)
    assert found.at_high < 0.01


def test_grey_images_are_not_judged(setup_of):
    images, targets = shades(6)
    with pytest.raises(CannotProbe, match="grey ones are black or white by nature"):
        ends_of_range(setup_of((images[:, :1], targets), mlp()))
    with pytest.raises(CannotProbe, match="all pixels are grey"):
        ends_of_range(setup_of((images[:, :1].repeat(1, 3, 1, 1), targets), mlp()))
