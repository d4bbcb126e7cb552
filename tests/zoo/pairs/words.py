"""A class for every word of a sentence: what goes wrong between words, lengths and layers, and what only looks so."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.zoo.case import bug, healthy, without

TRAIN, VAL, LENGTH, WORDS, PADDING = 600, 300, 12, 20, -100


def sentences():
    """Return words (N, 12), 0 is padding, and classes (N, 12), which depend on the word and on the one before."""
    rng = np.random.default_rng(0)
    x = rng.integers(1, WORDS, (TRAIN + VAL, LENGTH))
    before = np.c_[np.zeros((len(x), 1), int), x[:, :-1]]
    y = (x % 3 + (before < WORDS // 2)) % 3
    short = np.arange(LENGTH)[None] >= rng.integers(LENGTH // 2, LENGTH + 1, len(x))[:, None]
    return np.where(short, 0, x), np.where(short, PADDING, y)


def cut(x, y):
    return (x[:TRAIN], y[:TRAIN]), (x[TRAIN:], y[TRAIN:])


def sound():
    return cut(*sentences())


class Tagger(nn.Module):
    def __init__(self, classes, width=24, batch_first=True, layers=1, dropout=0.0):
        super().__init__()
        self.words = nn.Embedding(WORDS, width)
        self.reader = nn.GRU(width, width, layers, batch_first=batch_first, bidirectional=True, dropout=dropout)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, words):
        return self.head(self.reader(self.words(words))[0]).movedim(-1, 1)


def tagger(num_classes):
    return Tagger(num_classes)


TAGS = {
    "data.source": "words.py:sound",
    "data.task": "classification",
    "model.name": "words.py:tagger",
    "optimizer.name": "adam",
    "optimizer.lr": 5e-3,
    "optimizer.momentum": None,
    "train.batch_size": 32,
}


@bug(
    "digits-mlp",
    "data.source",
    causes=["misaligned-labels"],
    step="coarse",
    changes=without("data.source", TAGS),
    twin=TAGS,
)
def sentences_and_tags_from_two_orders():
    """The tags of train are of other sentences: one of the two files was sorted."""
    (x, y), val = sound()
    other = np.random.default_rng(1).permutation(len(x))
    return (x, y[other]), val


@bug(
    "digits-mlp",
    "optimizer.name",
    causes=["untrained-parameters"],
    step="check-init",
    changes={**without("optimizer.name", TAGS), "model.name": "words.py:tagger"},
    twin=TAGS,
)
def only_the_head_is_trained(params, lr, model):
    """The optimizer is given the parameters of the last layer; the embedding and the reader stay as they were drawn."""
    return torch.optim.Adam(model.head.parameters(), lr)


@bug("digits-mlp", "loss.name", causes=["wrong-axis", "loss-mismatch"], step="check-init", changes=TAGS, twin=TAGS)
def scores_reshaped_without_moving_the_classes(outputs, targets):
    """Scores of the form (N, C, L) are reshaped to (N L, C) as if the classes came last."""
    return functional.cross_entropy(outputs.reshape(-1, outputs.shape[1]), targets.reshape(-1))


@bug(
    "digits-mlp",
    "model.name",
    causes=["batch-dependence", "wrong-axis", "scrambled-input"],
    step="check-init",
    changes=without("model.name", TAGS),
    twin=TAGS,
)
def tagger_that_reads_down_the_batch(num_classes):
    """The reader is built without batch_first: what it takes for a sentence is one place of the whole batch."""
    return Tagger(num_classes, batch_first=False)


class Squashed(Tagger):
    def forward(self, words):
        return super().forward(words).softmax(1)


@bug(
    "digits-mlp",
    "model.name",
    causes=["double-softmax"],
    step="overfit",
    changes=without("model.name", TAGS),
    twin=TAGS,
)
def tags_through_softmax_twice(num_classes):
    """The tagger ends with a softmax, and cross-entropy takes another."""
    return Squashed(num_classes)


@bug(
    "digits-mlp",
    "data.source",
    causes=["train-val-shift"],
    step="diagnose",
    changes=without("data.source", TAGS),
    twin=TAGS,
)
def val_numbered_by_a_vocabulary_of_its_own():
    """The vocabulary is built once more for val: words have other numbers there."""
    train, (x, y) = sound()
    other = np.r_[0, 1 + np.random.default_rng(2).permutation(WORDS - 1)]
    return train, (other[x], y)


@healthy("digits-mlp", "data.augment", changes=TAGS, twin=TAGS)
def words_left_out_now_and_then(inputs, targets, generator):
    """One word in twenty is replaced by 0, and its place does not count."""
    gone = torch.rand(inputs.shape, generator=generator) < 0.05
    return inputs.masked_fill(gone, 0), targets.masked_fill(gone, PADDING)


@healthy("digits-mlp", "model.name", changes=without("model.name", TAGS), twin=TAGS)
def two_readers_with_dropout_between(num_classes):
    """Two recurrent layers, with dropout between them."""
    return Tagger(num_classes, layers=2, dropout=0.2)


class ClassesLast(Tagger):
    def forward(self, words):
        return super().forward(words).movedim(1, -1)


@healthy("digits-mlp", "model.name", changes=without("model.name", TAGS), twin=TAGS)
def classes_in_the_last_place(num_classes):
    """The scores have the form (N, L, C), as most libraries give them."""
    return ClassesLast(num_classes)


healthy(
    "digits-mlp",
    name="tags_smoothed",
    changes={**TAGS, "loss.name": "cross_entropy", "loss.label_smoothing": 0.05},
    twin=TAGS,
    what="The loss of every word has a label smoothing of 0.05.",
)
