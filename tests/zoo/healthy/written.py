"""Sound programs of other shapes that were taken for broken, or nearly: written as an exam, developed on since."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.zoo import arrays
from tests.zoo.case import healthy

SHARES = [0.9, 0.1]


def rare():
    """Return 3,000 rows of which 10 % are of class 1, about one spread apart."""
    generator = np.random.default_rng(0)
    labels = (generator.random(3000) < SHARES[1]).astype(np.int64)
    rows = generator.normal(size=(3000, 8)) + 0.95 * labels[:, None]
    return arrays.cut(rows.astype(np.float32), labels, 2300)


def weighed(outputs, targets):
    return functional.cross_entropy(outputs, targets, weight=0.5 / torch.tensor(SHARES, device=outputs.device))


@healthy(
    "digits-mlp",
    "train.metric",
    changes={"data.source": "written.py:rare", "loss.name": "written.py:weighed", "train.monitor": "val_metric"},
)
def mean_recall_of_weighed_classes(outputs, targets):
    """Nine to one, weighed by the inverse and judged by the mean recall: accuracy is below the majority class."""
    answers = outputs.argmax(1)
    return torch.stack([(answers[targets == k] == k).float().mean() for k in range(2)]).mean()


@healthy("digits-mlp", "data.source", changes={"data.normalize": "standardize"})
def a_rare_digit_is_repeated_in_train():
    """Three quarters of the threes are missing; those in train come four times, val is left as it is."""
    generator = np.random.default_rng(2)
    splits = []
    for images, labels in arrays.digits():
        kept = np.flatnonzero((labels != 3) | (generator.random(len(labels)) < 0.25))
        splits.append((images[kept], labels[kept]))
    (images, labels), val = splits
    rows = np.concatenate([np.arange(len(labels)), np.repeat(np.flatnonzero(labels == 3), 3)])
    return (images[rows], labels[rows]), val


@healthy("digits-mlp", "loss.name", source="Wen et al. 2016, center loss")
def scores_drawn_to_their_mean(outputs, targets):
    """A term draws the scores of one class towards their mean over the batch: examples are seen together on purpose."""
    of_class = functional.one_hot(targets, outputs.shape[1]).float()
    means = of_class.T @ outputs / of_class.sum(0).clamp_min(1)[:, None]
    return functional.cross_entropy(outputs, targets) + 0.05 * (outputs - means[targets]).square().mean()


@healthy("digits-mlp", "model.name")
def much_dropout_in_the_code(input_shape, num_classes):
    """Dropout of a fifth before and of a half behind the hidden layers, written into the model."""
    width = int(np.prod(input_shape))
    return nn.Sequential(
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(width, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 256),
        nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, num_classes),
    )  # fmt: skip
