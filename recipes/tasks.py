"""Data and models of the recipes for segmentation, tokens, several labels, quantities and retrieval."""

import numpy as np
from sklearn.datasets import load_diabetes, load_digits
from torch import nn
from torch.nn import functional as F


def _digits():
    found = load_digits()
    return found.images.astype("float32") / 16, found.target.astype("int64")


def segmentation(canvases: int = 1200):
    """Two digits on a 16x16 canvas; the mask says for each pixel: nothing (0), or the digit plus one."""
    images, labels = _digits()
    rng = np.random.default_rng(0)
    x = np.zeros((canvases, 1, 16, 16), "float32")
    y = np.zeros((canvases, 16, 16), "int64")
    for i in range(canvases):
        for half in (0, 8):
            j = rng.integers(len(images))
            top = rng.integers(0, 9)
            x[i, 0, top : top + 8, half : half + 8] = images[j]
            y[i, top : top + 8, half : half + 8] = np.where(images[j] > 0.25, labels[j] + 1, 0)
    return (x, y), None


def tokens(sentences: int = 1500, length: int = 20, words: int = 30):
    """Words whose class depends on the word before: the first fifteen words turn the next one's class round."""
    rng = np.random.default_rng(0)
    x = rng.integers(1, words, (sentences, length))
    before = np.c_[np.zeros((sentences, 1), int), x[:, :-1]]
    y = (x % 3 + (before < 15)) % 3
    short = np.arange(length)[None] >= rng.integers(length // 2, length + 1, sentences)[:, None]
    return (np.where(short, 0, x), np.where(short, -100, y)), None


def several(canvases: int = 1500):
    """Three digits side by side; which of the ten are there?"""
    images, labels = _digits()
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(images), (canvases, 3))
    x = np.concatenate([images[chosen[:, k]] for k in range(3)], axis=2)[:, None]
    y = np.zeros((canvases, 10), "float32")
    for k in range(3):
        y[np.arange(canvases), labels[chosen[:, k]]] = 1
    return (x, y), None


def diabetes():
    """442 patients, ten measurements, one quantity, in units of its spread."""
    found = load_diabetes()
    y = (found.target - found.target.mean()) / found.target.std()
    return (found.data.astype("float32") * 21, y.astype("float32")), None


def digits():
    """The digits as identities: val and test have digits that train has not."""
    images, labels = _digits()
    return (images[:, None], labels), None


def fcn(num_classes: int, width: int = 16):
    """Return a fully convolutional net: class scores for every pixel."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 5, padding=2), nn.ReLU(),
        nn.Conv2d(2 * width, num_classes, 1),
    )  # fmt: skip


class Tagger(nn.Module):
    """A recurrent net that reads a sentence both ways and says a class for every word."""

    def __init__(self, num_classes: int, width: int):
        super().__init__()
        self.words = nn.Embedding(30, width)
        self.reader = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, tokens):
        return self.head(self.reader(self.words(tokens))[0]).movedim(-1, 1)


def tagger(num_classes: int, width: int = 32):
    return Tagger(num_classes, width)


def embedder(input_shape, width: int = 16, features: int = 16):
    """Return a conv net whose outputs are features, not classes."""
    return nn.Sequential(
        nn.Conv2d(input_shape[0], width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(2 * width * 16, features),
    )  # fmt: skip


def contrast(outputs, targets, temperature: float = 0.2):
    """Draw features of one identity together: the log-likelihood of picking a match by cosine (Khosla et al. 2020)."""
    near = F.normalize(outputs, dim=1)
    scores = (near @ near.T / temperature).fill_diagonal_(-1e4)
    match = (targets[:, None] == targets[None]).float().fill_diagonal_(0)
    each = -(F.log_softmax(scores, 1) * match).sum(1) / match.sum(1).clamp_min(1)
    return each.mean()


def squared(outputs, targets):
    """Take the mean squared error of a column of outputs."""
    return F.mse_loss(outputs.squeeze(1), targets)
