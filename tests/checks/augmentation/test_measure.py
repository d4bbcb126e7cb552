import pytest

from tests.checks.classes_augmented.test_measure import mirrored, pictures
from tests.checks.probe_models import mlp
from tuner.checks.augmentation.measure import augmentation


def test_mirror_images_are_found_and_read_by_what_clean_ones_taught(setup_of):
    found = augmentation(setup_of(pictures(), mlp(), data={"augment": mirrored}))
    assert found.mirrored == pytest.approx(128, abs=3)  # every other of the half that is asked
    assert found.of_mirrored == pytest.approx(0.5, abs=0.1)  # left and right are each other's, top and none their own


@pytest.mark.parametrize("turn", [lambda x: x.rot90(1, (2, 3)), lambda x: x.flip(2), lambda x: x.transpose(2, 3)])
def test_turns_count_as_well(setup_of, turn):
    found = augmentation(setup_of(pictures(), mlp(), data={"augment": lambda x, y: (turn(x), y)}))
    assert found.mirrored == 256


def test_moved_pictures_are_no_mirror_images(setup_of):
    found = augmentation(setup_of(pictures(), mlp(), data={"augment": lambda x, y: (x.roll(1, 3), y)}))
    assert (found.mirrored, found.of_mirrored) == (0, None)
