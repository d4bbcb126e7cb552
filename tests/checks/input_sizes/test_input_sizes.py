"""The sizes of images in train and val."""

import itertools

import pytest
import torch
from torch.nn import functional

from tests.checks.probe_models import mlp
from tuner.checks.input_sizes.evidence import InputSizes
from tuner.checks.input_sizes.measure import input_sizes
from tuner.checks.input_sizes.rules import trained_on_smaller_images
from tuner.checks.tools.frame import DoesNotApply


def resizing(*sizes):
    drawn = itertools.cycle(sizes)
    return lambda inputs, targets: (functional.interpolate(inputs, size=next(drawn)), targets)


def images(count=64):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(count) % 4


def test_the_smallest_and_the_largest_of_train_stand_beside_val(setup_of):
    found = input_sizes(setup_of(images(), mlp(), val=images(8), data={"augment": resizing((6, 6), (10, 10))}))
    assert (found.val, found.smallest, found.largest, found.batches) == ((8, 8), (6, 6), (10, 10), 20)
    assert trained_on_smaller_images(found) is None


def smooth(count=64):
    """Return images of waves of a length of 16 pixels, 32 x 32."""
    phase = torch.rand(count, 2, generator=torch.Generator().manual_seed(0)) * 6.28
    line = torch.arange(32) * 6.28 / 16
    high, wide = (torch.sin(line + phase[:, place, None]) for place in (0, 1))
    return (high[:, None, :, None] + wide[:, None, None, :]), torch.arange(count) % 4


def test_pieces_of_half_the_side_are_no_smaller_images(setup_of):
    piece = lambda inputs, targets: (inputs[:, :, 8:24, 4:20], targets)  # noqa: E731
    found = input_sizes(setup_of(smooth(), mlp(), val=smooth(8), data={"augment": piece}))
    assert found.largest == (16, 16) and found.rougher == pytest.approx(1, abs=0.1)
    assert trained_on_smaller_images(found) is None


def test_smooth_images_of_half_the_side_are_twice_as_rough(setup_of):
    found = input_sizes(setup_of(smooth(), mlp(), val=smooth(8), data={"augment": resizing((16, 16))}))
    assert found.rougher == pytest.approx(2, abs=0.15)
    assert trained_on_smaller_images(found).severity == "warn"


def test_train_of_half_the_side_alone_is_too_small(setup_of):
    found = InputSizes((8, 8), (4, 4), (4, 4), 20)
    finding = trained_on_smaller_images(found)
    assert finding.cause == "augmentation-harms" and "4 x 4 at most, those of val 8 x 8" in finding.title


def test_images_that_nothing_changes_are_not_asked_about(setup_of):
    with pytest.raises(DoesNotApply, match="images are not augmented"):
        input_sizes(setup_of(images(), mlp(), val=images(8)))


@pytest.mark.parametrize(("largest", "fires"), [((16, 16), True), ((17, 16), False), ((32, 8), False)])
def test_one_side_of_more_than_half_is_enough(largest, fires):
    assert (trained_on_smaller_images(InputSizes((32, 32), (8, 8), largest, 20)) is not None) == fires
