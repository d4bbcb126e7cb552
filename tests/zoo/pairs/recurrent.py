"""Recurrent nets and attention over time: what never arrives at the head, and what arrives from another example."""

import numpy as np
import torch
from torch import nn

from tests.zoo.case import bug, healthy

WORDS, LONG, CLASSES = 60, 100, 4
SLOWLY = {"optimizer.name": "adam", "optimizer.lr": 0.005, "optimizer.momentum": None}


def sentences(train=1500, val=500, seed=0):
    """Return (train, val) of sentences (N, 100) of 8 to 20 words, padded with 0 behind: 4 topics."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, train + val)
    rows = np.zeros((train + val, LONG), dtype=np.int64)
    for row, label in zip(rows, labels, strict=True):
        length = generator.integers(8, 21)
        topical = 1 + label * 10 + generator.integers(0, 10, length)
        row[:length] = np.where(generator.random(length) < 0.3, topical, generator.integers(1, WORDS, length))
    return (rows[:train], labels[:train]), (rows[train:], labels[train:])


class Words(nn.Module):
    """An LSTM over words; its state after the last word, or after the last place of the row."""

    def __init__(self, classes, real_end):
        super().__init__()
        self.words, self.lstm = nn.Embedding(WORDS, 24, padding_idx=0), nn.LSTM(24, 48, batch_first=True)
        self.head, self.real_end = nn.Linear(48, classes), real_end

    def forward(self, tokens):
        read, _ = self.lstm(self.words(tokens))
        if not self.real_end:
            return self.head(read[:, -1])
        ends = (tokens != 0).sum(1) - 1
        return self.head(read[torch.arange(len(read)), ends])


def words(num_classes):
    return Words(num_classes, real_end=True)


SENTENCES = {**SLOWLY, "data.source": "recurrent.py:sentences"}


@bug(
    "digits-mlp",
    "model.name",
    causes=["bad-init-vanishing", "input-ignored"],
    step="check-init",
    changes=SENTENCES,
    twin={**SENTENCES, "model.name": "recurrent.py:words"},
    source="https://discuss.pytorch.org/t/lstm-gru-rnn-prefers-short-sequences/10263",
)
def state_after_eighty_places_of_padding(num_classes):
    """The LSTM's output at the last place is taken, 80 or more places of padding after the last word."""
    return Words(num_classes, real_end=False)


@healthy("digits-mlp", "model.name", changes=SENTENCES, twin={**SENTENCES, "model.name": "recurrent.py:words"})
def state_after_the_last_word(num_classes):
    """The LSTM's output at each sentence's last word."""
    return Words(num_classes, real_end=True)


class Attends(nn.Module):
    """A transformer over the words; `ignored`: which places its mask leaves out, made of where the padding is."""

    def __init__(self, classes, ignored):
        super().__init__()
        self.ignored = ignored
        self.words, self.places = nn.Embedding(WORDS, 32), nn.Parameter(0.1 * torch.randn(LONG, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(32, classes)

    def forward(self, tokens):
        ignored = self.ignored(tokens == 0)
        read = self.encoder(self.words(tokens) + self.places, src_key_padding_mask=ignored)
        kept = (~ignored).unsqueeze(2)
        return self.head((read * kept).sum(1) / kept.sum(1))


def padding_left_out(num_classes):
    return Attends(num_classes, lambda padding: padding)


@bug(
    "digits-mlp",
    "model.name",
    causes=["input-ignored"],
    step="check-init",
    changes=SENTENCES,
    twin={**SENTENCES, "model.name": "recurrent.py:padding_left_out"},
    source="https://stackoverflow.com/questions/62170439/difference-between-src-mask-and-src-key-padding-mask",
)
def words_left_out_in_place_of_padding(num_classes):
    """The mask is True at the words, as other libraries have it: torch leaves out what is True."""
    return Attends(num_classes, lambda padding: ~padding)


@healthy("digits-mlp", "model.name", changes=SENTENCES, twin={**SENTENCES, "model.name": "recurrent.py:words"})
def attention_that_leaves_the_padding_out(num_classes):
    """The mask is True at the padding."""
    return Attends(num_classes, lambda padding: padding)


class Pixels(nn.Module):
    """A recurrent net that reads a digit pixel by pixel."""

    def __init__(self, cell, classes):
        super().__init__()
        self.cell, self.head = cell, nn.Linear(64, classes)

    def forward(self, images):
        read, _ = self.cell(images.flatten(1)[..., None])
        return self.head(read[:, -1])


def remembering(input_shape, num_classes):
    return Pixels(with_forget_bias(nn.LSTM(1, 64, batch_first=True), 3.0), num_classes)


def with_forget_bias(cell, bias):
    for name, parameter in cell.named_parameters():
        if "bias_ih" in name:
            parameter.data[cell.hidden_size : 2 * cell.hidden_size] = bias
    return cell


PIXELS = {"optimizer.name": "adam", "optimizer.lr": 0.01, "optimizer.momentum": None, "train.clip_norm": 1.0}


@bug(
    "digits-mlp",
    "model.name",
    causes=["bad-init-vanishing"],
    step="check-init",
    changes=PIXELS,
    twin={**PIXELS, "model.name": "recurrent.py:remembering"},
    source="Jozefowicz et al. 2015, An empirical exploration of recurrent network architectures",
)
def forget_gates_shut_at_the_start(input_shape, num_classes):
    """The bias of the LSTM's forget gates starts at -3, where +1 or more was meant: pixels are forgotten at once."""
    return Pixels(with_forget_bias(nn.LSTM(1, 64, batch_first=True), -3.0), num_classes)


class Directions(nn.Module):
    """A GRU in both directions over the rows of an image; its two last states, put side by side."""

    def __init__(self, shape, classes, permuted):
        super().__init__()
        self.gru = nn.GRU(shape[0] * shape[2], 32, batch_first=True, bidirectional=True)
        self.head, self.permuted = nn.Linear(64, classes), permuted

    def forward(self, images):
        _, last = self.gru(images.permute(0, 2, 1, 3).flatten(2))
        return self.head((last.transpose(0, 1) if self.permuted else last).reshape(len(images), -1))


def side_by_side(input_shape, num_classes):
    return Directions(input_shape, num_classes, permuted=True)


@bug(
    "digits-mlp",
    "model.name",
    causes=["batch-dependence", "scrambled-input"],
    step="check-init",
    changes=SLOWLY,
    twin={**SLOWLY, "model.name": "recurrent.py:side_by_side"},
    source="https://github.com/PaccMann/paccmann_chemistry/issues/5",
)
def both_directions_viewed_as_one_row(input_shape, num_classes):
    """The last states (directions, batch, width) are viewed as (batch, -1): each row holds two other examples."""
    return Directions(input_shape, num_classes, permuted=False)


@healthy("digits-mlp", "model.name", changes=SLOWLY)
def both_directions_side_by_side(input_shape, num_classes):
    """The last states of both directions, transposed, then put side by side."""
    return side_by_side(input_shape, num_classes)


class Rows(nn.Module):
    """A transformer encoder over the rows of an image."""

    def __init__(self, shape, classes, batch_first):
        super().__init__()
        self.embed = nn.Linear(shape[0] * shape[2], 32)
        self.places = nn.Parameter(0.02 * torch.randn(1, shape[1], 32))
        layer = nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, classes)

    def forward(self, images):
        return self.head(self.encoder(self.embed(images.permute(0, 2, 1, 3).flatten(2)) + self.places).mean(1))


def rows_in_order(input_shape, num_classes):
    return Rows(input_shape, num_classes, batch_first=True)


@bug(
    "digits-mlp",
    "model.name",
    causes=["batch-dependence", "wrong-axis"],
    step="check-init",
    changes=SLOWLY,
    twin={**SLOWLY, "model.name": "recurrent.py:rows_in_order"},
    source="https://github.com/IBM/TabFormer/pull/14",
)
def encoder_that_attends_over_the_batch(input_shape, num_classes):
    """nn.TransformerEncoder without batch_first is given (batch, time, width): examples attend to one another."""
    return Rows(input_shape, num_classes, batch_first=False)
