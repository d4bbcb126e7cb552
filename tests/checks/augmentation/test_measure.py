import weakref

import pytest
import torch

from tests.checks.classes_augmented.test_measure import mirrored, pictures
from tests.checks.probe_models import mlp
from tuner.checks.augmentation.measure import augmentation
from tuner.checks.classes_augmented.measure import classes_augmented
from tuner.checks.tools.frame import DoesNotApply


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


def test_values_that_augmentation_makes_infinite_are_seen(setup_of):
    spoilt = {"augment": lambda x, y: (x / x.new_zeros(()), y)}
    assert not augmentation(setup_of(pictures(), mlp(), data=spoilt)).finite
    assert augmentation(setup_of(pictures(), mlp(), data={"augment": lambda x, y: (x.flip(3), y)})).finite


def test_shift_and_ratio_are_those_of_all_values(setup_of):
    inputs, targets = pictures()
    found = augmentation(setup_of((inputs, targets), mlp(), data={"augment": lambda x, y: (3 * x + 2, y)}))
    spread = float(inputs.std())
    assert found.ratio == pytest.approx(3, rel=1e-4)
    assert found.shift == pytest.approx(float((3 * inputs + 2 - inputs).mean()) / spread, rel=1e-2)


@pytest.mark.parametrize("measure", [augmentation, classes_augmented])
def test_whole_images_are_held_a_batch_at_a_time(setup_of, measure):
    inputs, targets = torch.rand(1024, 3, 16, 16), torch.arange(1024) % 4
    alive, most = [], 0

    def watched(x, y):
        nonlocal most
        values = x.flip(3).numpy()
        alive.append(weakref.ref(values))  # lives as long as a tensor over it, or a view of one
        most = max(most, sum(known() is not None for known in alive))
        return torch.from_numpy(values), y

    measure(setup_of((inputs, targets), mlp(), data={"augment": watched}))
    assert len(alive) == 32
    assert most <= 2


def shares(x, y):
    return x, torch.nn.functional.one_hot(y.long(), 4).float()


@pytest.mark.parametrize(
    ("augment", "words"),
    [(shares, "shares of classes of the labels"), (lambda x, y: (x[:, :, :5, :5], y), r"5\) of \(1, ")],
    ids=["shares", "sizes"],
)
def test_labels_that_become_shares_and_small_images_of_other_sizes_are_left_to_others(setup_of, augment, words):
    with pytest.raises(DoesNotApply, match=words):
        augmentation(setup_of(pictures(), mlp(), data={"augment": augment}))
