"""Reading the labels of a Dataset, some of them put together at a time."""

import numpy as np
import pytest

from tuner.tasks.classification import IGNORED
from tuner.train import labels


class Examples:
    """The part of a store that is read for its labels."""

    def __init__(self, targets):
        self.targets = targets

    def __len__(self):
        return len(self.targets)

    def examples(self):
        return ((None, target) for target in self.targets)


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_labels_come_in_the_order_of_the_examples(at_once, monkeypatch):
    monkeypatch.setattr(labels, "AT_ONCE", at_once)
    _, found = labels.read_all(Examples(list(range(10))), lambda share, words: None, keep=False)
    assert found.tolist() == list(range(10))


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_labels_of_sequences_are_padded_to_the_longest_of_all(at_once, monkeypatch):
    monkeypatch.setattr(labels, "AT_ONCE", at_once)
    given = [np.full(1 + i % 5, i) for i in range(8)]
    _, found = labels.read_all(Examples(given), lambda share, words: None, keep=False)
    assert found.shape == (8, 5)
    for row, target in zip(found, given, strict=True):
        assert row[: len(target)].tolist() == target.tolist()
        assert set(row[len(target) :].tolist()) <= {IGNORED}
