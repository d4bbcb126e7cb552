import pytest
import torch

from tests.checks.probe_models import mlp
from tuner.checks.classes_augmented.measure import classes_augmented


def pictures(n=512):
    """Return bars: left, right, top, and none, with noise; the first two are each other's mirror images."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(n) % 4
    inputs = 0.3 * torch.randn(n, 1, 8, 8, generator=generator)
    for label, part in enumerate([(slice(None), slice(0, 3)), (slice(None), slice(5, 8)), (slice(0, 3), slice(None))]):
        inputs[targets == label, :, part[0], part[1]] += 1
    return inputs, targets


def mirrored(inputs, targets):
    turned = torch.arange(len(inputs)) % 2 == 0
    return torch.where(turned[:, None, None, None], inputs.flip(3), inputs), targets


def test_classes_that_are_mirror_images_are_taken_for_one_another(setup_of):
    found = classes_augmented(setup_of(pictures(), mlp(), data={"augment": mirrored}))
    assert found.taken_for[:2] == [1, 0]
    assert found.share_taken[0] == pytest.approx([0.0, 0.5], abs=0.15)
    assert found.recall[2] == pytest.approx([1.0, 1.0], abs=0.05)


def test_without_augmentation_there_is_nothing_to_ask(setup_of):
    assert classes_augmented(setup_of(pictures(), mlp())).counts == []
