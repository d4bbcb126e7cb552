import pytest
import torch

from tests.checks.probe_models import mlp
from tuner.checks.labels_fit.measure import labels_fit


def flipped(targets, share, seed=0):
    generator = torch.Generator().manual_seed(seed)
    other = (targets + 1 + torch.randint(9, targets.shape, generator=generator)) % 10
    return torch.where(torch.rand(targets.shape, generator=generator) < share, other, targets)


def test_wrong_labels_of_train_show_within_train_and_not_within_val(setup_of, blobs):
    inputs, targets = blobs(600)
    train, val = labels_fit(setup_of((inputs, flipped(targets, 0.3)), mlp(), val=blobs(400, seed=1))).recalls
    assert 0.3 < train < 0.75  # no reader gets more right of labels that are 70 % right
    assert val > 0.95


def test_classes_that_a_split_has_few_of_are_left_out(setup_of, blobs):
    inputs, targets = blobs(300)
    few = tuple(part[:60] for part in blobs(60, seed=1))
    assert labels_fit(setup_of((inputs, targets), mlp(), val=few)).recalls is None


def test_shares_of_classes_do_not_matter(setup_of, blobs):
    inputs, targets = blobs(600)
    others, labels = blobs(1000, seed=1)
    kept = (labels == 0) | (torch.arange(1000) < 300)  # a val split that is half of one class
    train, val = labels_fit(setup_of((inputs, targets), mlp(), val=(others[kept], labels[kept]))).recalls
    assert train == pytest.approx(val, abs=0.05)
