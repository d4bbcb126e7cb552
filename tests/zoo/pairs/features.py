"""Features by which examples of one kind find each other, tried on kinds that train has not; bugs and look-alikes."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from tests.zoo.case import bug, healthy, without

TRAIN_KINDS = 7


def kinds():
    """Return the digits 0 to 6 as train, 7 to 9 as val: (N, 1, 8, 8) in 0..1."""
    found = load_digits()
    x, y = (found.images / 16).astype(np.float32)[:, None], found.target.astype(np.int64)
    train = y < TRAIN_KINDS
    return (x[train][:800], y[train][:800]), (x[~train][:300], y[~train][:300])


def sound():
    return kinds()


def net(num_classes, width=12, features=16):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(2 * width * 16, features),
    )  # fmt: skip


def contrast(outputs, targets, temperature=0.2):
    """Draw features of one kind together: the log-likelihood of picking a match by cosine (Khosla et al. 2020)."""
    near = functional.normalize(outputs, dim=1)
    scores = (near @ near.T / temperature).fill_diagonal_(-1e4)
    match = (targets[:, None] == targets[None]).float().fill_diagonal_(0)
    each = -(functional.log_softmax(scores, 1) * match).sum(1) / match.sum(1).clamp_min(1)
    return each.mean()


KINDS = {
    "data.source": "features.py:sound",
    "data.task": "embedding",
    "model.name": "features.py:net",
    "loss.name": "features.py:contrast",
    "optimizer.name": "adam",
    "optimizer.lr": 1e-3,
    "optimizer.momentum": None,
    "train.batch_size": 64,
}


@bug(
    "digits-mlp",
    "data.source",
    causes=["misaligned-labels"],
    step="coarse",
    changes=without("data.source", KINDS),
    twin=KINDS,
)
def kinds_of_other_pictures():
    """The pictures of train were shuffled, their kinds were not."""
    (x, y), val = sound()
    return (x[np.random.default_rng(1).permutation(len(x))], y), val


@bug(
    "digits-mlp",
    "loss.name",
    causes=["sign-flipped-loss"],
    step="check-init",
    changes=without("loss.name", KINDS),
    twin=KINDS,
)
def kinds_driven_apart(outputs, targets):
    """The log-likelihood of a match is minimised, not its negative."""
    return -contrast(outputs, targets)


@bug(
    "digits-mlp",
    "model.name",
    causes=["dead-units"],
    step="check-init",
    changes=without("model.name", KINDS),
    twin=KINDS,
)
def features_behind_a_shut_rectifier(num_classes):
    """The features pass a ReLU whose bias starts far below 0: most of them are 0 for every picture."""
    model = nn.Sequential(*net(num_classes), nn.ReLU())
    nn.init.constant_(model[-2].bias, -2.0)
    return model


@bug(
    "digits-mlp",
    "data.source",
    causes=["train-val-shift"],
    step="check-init",
    changes=without("data.source", KINDS),
    twin=KINDS,
)
def val_is_white_on_black():
    """Val was scanned as negatives, and with another contrast: its pictures are inverted and flat."""
    train, (x, y) = sound()
    rng = np.random.default_rng(2)
    return train, ((1 - 0.3 * x + rng.normal(0, 0.3, x.shape)).astype(np.float32), y)


@bug(
    "digits-mlp",
    "loss.name",
    causes=["wrong-axis", "batch-dependence"],
    step="check-init",
    changes=without("loss.name", KINDS),
    twin=KINDS,
)
def similarities_of_columns(outputs, targets):
    """Features are normalised over the batch, each column for itself, and the log-softmax runs down the queries."""
    near = functional.normalize(outputs, dim=0)
    scores = near @ near.T / 0.2
    match = (targets[:, None] == targets[None]).float()
    return -(functional.log_softmax(scores, 0) * match).mean()


@bug(
    "digits-mlp",
    "data.augment",
    causes=["augmentation-harms"],
    step="check-init",
    changes=KINDS,
    twin=KINDS,
)
def all_but_a_corner_erased(inputs, targets, generator):
    """Random erasing leaves a window of two pixels: what is shown says nothing of its kind."""
    kept = torch.zeros_like(inputs)
    top, left = torch.randint(0, 7, (2,), generator=generator).tolist()
    kept[..., top : top + 2, left : left + 2] = inputs[..., top : top + 2, left : left + 2]
    return kept, targets


healthy(
    "digits-mlp",
    name="features_by_triplets",
    changes={**without("loss.name", KINDS), "loss.name": "triplet"},
    twin=KINDS,
    what="The loss is that of triplets, the hardest of each batch.",
)


@healthy("digits-mlp", "model.name", changes=without("model.name", KINDS), twin=KINDS)
def features_of_length_one(num_classes):
    """The net itself divides its features by their length."""
    return Unit(num_classes)


class Unit(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.net = net(num_classes)

    def forward(self, x):
        return functional.normalize(self.net(x), dim=1)


@healthy("digits-mlp", "data.augment", changes=KINDS, twin=KINDS)
def pictures_a_pixel_aside(inputs, targets, generator):
    """Each picture is rolled by at most one pixel."""
    steps = torch.randint(-1, 2, (len(inputs), 2), generator=generator).tolist()
    return torch.stack([x.roll(tuple(by), (1, 2)) for x, by in zip(inputs, steps, strict=True)]), targets


@healthy("digits-mlp", "loss.name", changes=without("loss.name", KINDS), twin=KINDS)
def contrast_at_a_lower_temperature(outputs, targets):
    """The same loss at half the temperature: larger at the start, and no less sound."""
    return contrast(outputs, targets, temperature=0.1)


@healthy("digits-mlp", "data.augment", changes=KINDS, twin=KINDS)
def pictures_with_a_little_noise(inputs, targets, generator):
    """Each pixel gets noise of a twentieth of the range."""
    return inputs + 0.05 * torch.randn(inputs.shape, generator=generator), targets
