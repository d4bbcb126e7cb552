"""A class for every pixel: stripes that lie or stand, on noise; what goes wrong with masks, and what only looks so."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.zoo.case import bug, healthy, without

SIZE, TRAIN, VAL = 12, 400, 250


def pictures(patches=2):
    """Return pictures (N, 1, 12, 12) and masks (N, 12, 12): 0 nothing, 1 lying stripes, 2 standing ones."""
    rng = np.random.default_rng(0)
    count = TRAIN + VAL
    x = rng.normal(0, 0.4, (count, 1, SIZE, SIZE)).astype(np.float32)
    y = np.zeros((count, SIZE, SIZE), np.int64)
    stripes = np.where(np.arange(5) % 2, -1.0, 1.0)
    for i in range(count):
        for _ in range(patches):
            top, left = rng.integers(0, SIZE - 5, 2)
            kind = int(rng.integers(1, 3))
            patch = np.tile(stripes[:, None] if kind == 1 else stripes[None], (1, 5) if kind == 1 else (5, 1))
            x[i, 0, top : top + 5, left : left + 5] = patch + rng.normal(0, 0.4, (5, 5))
            y[i, top : top + 5, left : left + 5] = kind
    return x, y


def cut(x, y):
    return (x[:TRAIN], y[:TRAIN]), (x[TRAIN:], y[TRAIN:])


def sound():
    return cut(*pictures())


def net(num_classes, width=12):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
        nn.Conv2d(width, num_classes, 3, padding=1),
    )  # fmt: skip


PIXELS = {
    "data.source": "segments.py:sound",
    "data.task": "classification",
    "model.name": "segments.py:net",
    "optimizer.name": "adam",
    "optimizer.lr": 5e-3,
    "optimizer.momentum": None,
    "train.batch_size": 32,
    "train.monitor": "val_balanced_accuracy",
}


@bug(
    "digits-mlp",
    "data.source",
    causes=["misaligned-labels"],
    step="coarse",
    changes=without("data.source", PIXELS),
    twin=PIXELS,
)
def masks_in_another_order_than_pictures():
    """Pictures and masks are listed from two folders, of which one is sorted otherwise: train's pairs are chance."""
    (x, y), val = sound()
    return (x, y[np.random.default_rng(1).permutation(len(y))]), val


@bug(
    "digits-mlp",
    "data.source",
    causes=["misaligned-labels", "train-val-shift", "wrong-axis"],
    step="diagnose",
    changes=without("data.source", PIXELS),
    twin=PIXELS,
)
def masks_with_rows_for_columns():
    """The masks of train are read as (width, height): rows and columns are exchanged."""
    (x, y), val = sound()
    return (x, np.ascontiguousarray(y.transpose(0, 2, 1))), val


@bug(
    "digits-mlp",
    "data.augment",
    causes=["augmentation-harms", "misaligned-labels"],
    step="check-init",
    changes=PIXELS,
    twin=PIXELS,
)
def pictures_shifted_without_their_masks(inputs, targets, generator):
    """Pictures are rolled by up to four pixels, their masks stay where they are."""
    steps = torch.randint(-4, 5, (len(inputs), 2), generator=generator).tolist()
    return torch.stack([x.roll(tuple(by), (1, 2)) for x, by in zip(inputs, steps, strict=True)]), targets


class SoftmaxOfPixels(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x).softmax(1)


@bug(
    "digits-mlp",
    "model.name",
    causes=["double-softmax"],
    step="overfit",
    changes=without("model.name", PIXELS),
    twin=PIXELS,
)
def pixels_through_softmax_twice(num_classes):
    """The net ends with a softmax over the classes, and cross-entropy takes another."""
    return SoftmaxOfPixels(net(num_classes))


@bug(
    "digits-mlp",
    "loss.name",
    causes=["wrong-axis", "loss-mismatch"],
    step="check-init",
    changes=PIXELS,
    twin=PIXELS,
)
def log_softmax_over_the_columns(outputs, targets):
    """The log-softmax is taken over the picture's columns, not over the classes."""
    return functional.nll_loss(functional.log_softmax(outputs, dim=-1), targets)


@bug(
    "digits-mlp",
    "data.source",
    causes=["train-val-shift"],
    step="diagnose",
    changes=without("data.source", PIXELS),
    twin=PIXELS,
)
def classes_of_val_numbered_otherwise():
    """The masks of val come from another tool, which numbers the two kinds of stripes the other way round."""
    train, (x, y) = sound()
    return train, (x, np.array([0, 2, 1])[y])


@healthy("digits-mlp", "data.augment", changes=PIXELS, twin=PIXELS)
def pictures_and_masks_mirrored_together(inputs, targets, generator):
    """Half of the pictures are mirrored, and their masks with them."""
    flips = torch.rand(len(inputs), generator=generator) < 0.5
    inputs, targets = inputs.clone(), targets.clone()
    inputs[flips], targets[flips] = inputs[flips].flip(-1), targets[flips].flip(-1)
    return inputs, targets


healthy(
    "digits-mlp",
    name="pixels_weighed_by_their_class",
    changes={**PIXELS, "loss.name": "cross_entropy", "loss.weight": "balanced"},
    twin=PIXELS,
    what="The loss weighs the pixels of each class by its inverse share: two thirds of them are empty.",
)


@healthy("digits-mlp", "data.source", changes=without("data.source", PIXELS), twin=PIXELS)
def borders_of_the_masks_left_out():
    """The outermost pixels, which nobody has drawn with care, have the target -100: they do not count."""
    train, val = sound()
    for _, y in (train, val):
        y[:, [0, -1]] = y[:, :, [0, -1]] = -100
    return train, val


class Upsampled(nn.Module):
    def __init__(self, classes, width=16):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.deep = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(2 * width, classes, 3, padding=1)

    def forward(self, x):
        fine = self.down(x)
        coarse = functional.interpolate(self.deep(fine), scale_factor=2.0, mode="nearest")
        return {"out": self.head(torch.cat([fine, coarse], 1))}


@healthy("digits-mlp", "model.name", changes=without("model.name", PIXELS), twin=PIXELS)
def a_small_u_net(num_classes):
    """A net with a coarse and a fine path, batch norm, and a dictionary of outputs."""
    return Upsampled(num_classes)
