"""Train and val part company: what is learnt on one does not hold on the other, or holds honestly only so far."""

import hashlib

import numpy as np
import torch
from torch import nn
from torch.utils.data import Subset, TensorDataset, WeightedRandomSampler

from tests.zoo import arrays, parts
from tests.zoo.case import bug, healthy

BUCKETS, LONGEST = 512, 40


def hashed(images, salt):
    """Return the places with ink as word numbers, (N, 40) padded with 0: each word is hashed with a salt."""
    rows = np.zeros((len(images), LONGEST), dtype=np.int64)
    for row, image in zip(rows, images[:, 0], strict=True):
        words = [f"{salt}-{y}-{x}-{image[y, x] // 86}" for y, x in zip(*np.nonzero(image > 80), strict=True)][:LONGEST]
        row[: len(words)] = [
            1 + int.from_bytes(hashlib.md5(word.encode()).digest()[:4], "big") % (BUCKETS - 1) for word in words
        ]
    return rows


class Bag(nn.Module):
    """The mean of the words' vectors, then a small net."""

    def __init__(self, classes):
        super().__init__()
        self.words = nn.EmbeddingBag(BUCKETS, 32, mode="mean", padding_idx=0)
        self.head = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, classes))

    def forward(self, tokens):
        return self.head(self.words(tokens))


def bag(num_classes):
    return Bag(num_classes)


def hashed_alike():
    """Words are hashed alike in both splits."""
    return tuple((hashed(images, "a"), labels) for images, labels in arrays.digits())


ON_WORDS = {"model.name": "gaps.py:bag", "optimizer.name": "adam", "optimizer.lr": 0.01, "optimizer.momentum": None}
SOUND_WORDS = {**ON_WORDS, "data.source": "gaps.py:hashed_alike"}


@bug(
    "digits-mlp",
    "data.source",
    causes=["train-val-shift"],
    step="diagnose",
    changes=ON_WORDS,
    twin=SOUND_WORDS,
    source="https://docs.python.org/3/using/cmdline.html#envvar-PYTHONHASHSEED",
)
def words_hashed_with_another_salt_in_val():
    """Words are numbered by hash(), which has another salt in the process that made the val split."""
    train, val = arrays.digits()
    return (hashed(train[0], "a"), train[1]), (hashed(val[0], "b"), val[1])


@healthy("digits-mlp", "data.source", changes=ON_WORDS, twin={**SOUND_WORDS, "optimizer.lr": 0.005})
def words_hashed_alike():
    """Words are hashed alike in both splits."""
    return hashed_alike()


def table():
    """Return the splits of the cancer table as they were measured, and the statistics of train."""
    train, val = parts.cancer(scale=False)
    return train, val, train[0].mean(0), train[0].std(0)


@bug(
    "cancer-mlp",
    "data.source",
    causes=["train-val-shift"],
    step="check-init",
    source="https://github.com/nttcslab/byol-a/issues/5",
)
def rows_of_val_left_unscaled():
    """The scaler is applied to train; the line for val was forgotten."""
    train, val, mean, std = table()
    return ((train[0] - mean) / std, train[1]), val


@bug(
    "cancer-mlp",
    "data.source",
    causes=["train-val-shift"],
    step="check-init",
    source="https://github.com/NetManAIOps/OmniAnomaly/issues/39",
    changes={"optimizer.lr": 0.01},
    twin={"optimizer.lr": 0.01},
)
def rows_of_val_scaled_by_themselves():
    """A second scaler is fitted on val, which was collected in one clinic that sees the grave cases."""
    train, val, mean, std = table()
    grave = np.flatnonzero((val[1] == 0) | (np.arange(len(val[1])) % 6 == 0))
    rows, labels = val[0][grave], val[1][grave]
    return ((train[0] - mean) / std, train[1]), ((rows - rows.mean(0)) / rows.std(0), labels)


@bug(
    "digits-mlp",
    "data.source",
    causes=["repeated-data", "too-little-data"],
    step="check-init",
    changes={"data.normalize": "none"},
    source="https://github.com/deep-voice/soundbay/pull/49",
)
def one_weight_per_class_for_the_sampler():
    """WeightedRandomSampler is given the weights of the ten classes, not of the examples: it draws the first ten."""
    (images, labels), val = arrays.digits()
    weights = 1 / np.bincount(labels)
    drawn = list(WeightedRandomSampler(weights.tolist(), len(labels), generator=torch.Generator().manual_seed(0)))
    train = TensorDataset(torch.from_numpy(images).float() / 255, torch.from_numpy(labels))
    return Subset(train, drawn), (val[0].astype(np.float32) / 255, val[1])


healthy(
    "cifar-convbn",
    name="photographs_fitted_to_the_last",
    changes={"model.width": 32, "model.depth": 3, "stages.fine.epochs": 10},
    what="A larger net learns 1,600 photographs by heart: a wide gap, and val as good as it can be.",
)
