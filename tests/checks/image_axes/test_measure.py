import pytest
import torch
from torch import nn

from tuner.checks.image_axes.evidence import ImageAxes
from tuner.checks.image_axes.measure import image_axes
from tuner.checks.image_axes.rules import channels_last_taken_for_first, plain_layout
from tuner.train.layout import fails_channels_last, plain


def net(channels):
    return lambda: nn.Sequential(nn.Conv2d(channels, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def test_rows_that_the_first_convolution_takes_for_channels_are_an_error(setup_of):
    data = torch.randn(8, 12, 12, 3), torch.arange(8) % 2
    axes = image_axes(setup_of(data, net(12)))
    assert (axes.shape, axes.channels) == ([12, 12, 3], 12)
    assert channels_last_taken_for_first(axes).severity == "error"


@pytest.mark.parametrize(
    ("shape", "channels"),
    [((3, 12, 12), 3), ((12, 12, 3), 3), ((12, 12, 3), None), ((3, 4, 4), 3), ((16, 9, 9), 16), ((), None)],
)
def test_channels_first_a_model_that_permutes_and_one_without_convolutions_are_silent(shape, channels):
    assert channels_last_taken_for_first(ImageAxes(shape=list(shape), channels=channels)) is None


class Viewed(nn.Module):
    """LeNet's x.view(len(x), -1)."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 2)

    def forward(self, images):
        return self.fc(self.conv(images).view(len(images), -1))


def test_a_view_behind_a_convolution_fails_channels_last_and_works_plainly():
    images = torch.randn(2, 3, 8, 8)
    assert fails_channels_last(Viewed(), images)
    assert not fails_channels_last(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), images)
    expected = Viewed().eval()
    model = plain(expected)
    assert torch.equal(model(images.contiguous(memory_format=torch.channels_last)), model(images))


def test_a_model_that_fails_in_either_layout_is_left_to_its_own_error():
    assert not fails_channels_last(nn.Linear(5, 2), torch.randn(2, 3, 8, 8))


def test_the_plain_layout_is_a_note():
    assert plain_layout(ImageAxes(shape=[3, 8, 8], channels=3, plain_layout=True)).severity == "note"
    assert plain_layout(ImageAxes(shape=[3, 8, 8], channels=3)) is None


class Reshaping(nn.Module):
    """Permutes to channels last, and comes back by reshape where it should permute."""

    def __init__(self, back):
        super().__init__()
        self.conv, self.back = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), back

    def forward(self, images):
        last = images.permute(0, 2, 3, 1).contiguous()
        return self.conv(last.reshape(images.shape) if self.back == "reshape" else last.permute(0, 3, 1, 2) + 0.1)


def gradients():
    """Return smooth colour images: a slope in a random direction, of a colour each."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 12), torch.linspace(-1, 1, 12), indexing="ij")
    ways = torch.randn(40, 3, 2, 1, 1, generator=generator)
    return ways[:, :, 0] * x + ways[:, :, 1] * y, torch.arange(40) % 2


@pytest.mark.parametrize(("back", "fires"), [("reshape", True), ("permute", False)])
def test_what_the_first_convolution_is_given_is_looked_at_where_the_model_changes_the_images(setup_of, back, fires):
    axes = image_axes(setup_of(gradients(), lambda: Reshaping(back)))
    assert (axes.undone[0] - axes.smooth[0] > 0.1) is fires


def test_images_that_arrive_as_they_are_need_no_second_look(setup_of):
    assert image_axes(setup_of(gradients(), net(3))).smooth is None
