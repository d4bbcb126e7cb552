import pytest
import torch

from tests.checks.asking import ask
from tests.checks.probe_models import mlp
from tuner.checks.labels_fit.measure import labels_fit
from tuner.checks.labels_fit.rules import labels_unrelated


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


def hisses(count=400):
    """Return noise in one of four bands of frequencies, under as much noise in all of them, and which band it is."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(count) % 4
    bands = torch.fft.rfft(torch.randn(count, 512, generator=generator))
    place = torch.arange(bands.shape[1]) - (targets[:, None] * 30 + 100)
    waves = torch.fft.irfft(bands * ((place >= 0) & (place < 30)), n=512)
    waves = waves / waves.std(1, keepdim=True) + torch.randn(count, 512, generator=generator)
    return waves[:, None], targets


def weaves(count=400):
    """Return images of fine threads that lie or stand, under as much noise, and which they do."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(count) % 2
    waves = torch.fft.fft2(torch.randn(count, 48, 48, generator=generator))
    fine, slow = torch.fft.fftfreq(48).abs(), torch.fft.fftfreq(48).abs() < 0.1
    fine = (fine > 0.3) & (fine < 0.4)
    threads = torch.fft.ifft2(waves * (fine[:, None] & slow)).real
    images = torch.where(targets[:, None, None] == 1, threads, threads.transpose(1, 2))
    images = images / images.std((1, 2), keepdim=True) + torch.randn(count, 48, 48, generator=generator)
    return images[:, None], targets


@pytest.mark.parametrize("given", [hisses(), weaves()], ids=["sequences", "images"])
def test_what_a_small_picture_does_not_show_is_heard_in_the_frequencies(setup_of, given):
    found = labels_fit(setup_of(given, mlp()))
    assert found.train < found.chance + 0.1 and found.by_spectrum > 0.9
    assert ask(labels_unrelated, found) is None


def test_labels_of_other_examples_are_unrelated(setup_of):
    inputs, targets = hisses()
    mixed = targets[torch.randperm(len(targets), generator=torch.Generator().manual_seed(3))]
    found = labels_fit(setup_of((inputs, mixed), mlp()))
    assert found.by_spectrum < 0.35
    assert ask(labels_unrelated, found).code == "DA113"
