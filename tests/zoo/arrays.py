"""Arrays for cases that read their data themselves: what the bases hold, before anything goes wrong with it."""

from __future__ import annotations

import numpy as np

from tests.zoo.parts import Arrays

TRAIN_DIGITS = 1150  # as many as the base has after its test and val splits


def digits() -> tuple[Arrays, Arrays]:
    """Return (train, val) of scikit-learn's digits: uint8 (N, 1, 8, 8) of 0..255, 1150 and 647 images."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[order, None]
    labels = bunch.target[order].astype(np.int64)
    return (images[:TRAIN_DIGITS], labels[:TRAIN_DIGITS]), (images[TRAIN_DIGITS:], labels[TRAIN_DIGITS:])


def joined(train: Arrays, val: Arrays) -> Arrays:
    """Return both splits as one set, train first."""
    return np.concatenate([train[0], val[0]]), np.concatenate([train[1], val[1]])


def cut(images: np.ndarray, labels: np.ndarray, size: int) -> tuple[Arrays, Arrays]:
    """Return the first `size` examples and the rest."""
    return (images[:size], labels[:size]), (images[size:], labels[size:])
