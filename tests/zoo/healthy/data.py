"""Data that look unusual and are sound."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

from tests.zoo import parts
from tests.zoo.arrays import digits
from tests.zoo.case import healthy

healthy(
    "shapes-convbn",
    name="strong_but_valid_augmentation",
    changes={
        "data.augment": [
            {"name": "random_crop", "padding": 2},
            {"name": "color_jitter", "brightness": 0.4, "contrast": 0.4},
            {"name": "rotate", "degrees": 12.0},
            "hflip",
        ]
    },
    what="Crops, colours, turns and mirror images that leave the class as it is: train accuracy below val.",
)
healthy(
    "cifar-resnet",
    name="usual_augmentation_of_photographs",
    changes={"data.augment": ["hflip", {"name": "random_crop", "padding": 4}], "optimizer.weight_decay": 5e-4},
    what="Mirror images and crops with four pixels of padding.",
)
healthy(
    "shapes-conv",
    name="divided_by_255_only",
    changes={"data.normalize": "scale"},
    what="Bytes divided by 255, no mean subtracted.",
)
healthy(
    "digits-conv",
    name="centred_only",
    changes={"data.normalize": "channel_mean"},
    what="The channel's mean is subtracted, nothing is divided.",
)


@healthy("shapes-convbn", "model.name", changes={"data.normalize": "none"})
def batch_norm_for_raw_pixels(input_shape, num_classes):
    """Bytes as they are, and a batch norm as the first layer, which scales them."""
    from tuner.parts import models

    return nn.Sequential(nn.BatchNorm2d(input_shape[0]), models.convnet(input_shape, num_classes, 16, 2))


healthy(
    "shapes-convbn",
    name="easy_data",
    changes={"data.noise": 0.02, "data.train": 2400, "model.depth": 3},
    what="Clean shapes and a net that gets nearly all of them right.",
)
healthy(
    "shapes-convbn",
    name="small_val",
    changes={"data.val": 200},
    what="Two hundred val examples: noisy, and enough to see what works.",
)


@healthy("digits-conv", "data.source", changes={"data.normalize": "standardize"})
def balanced_by_repetition():
    """Rare classes of train are repeated until all are equally frequent; val is as it was."""
    (images, labels), val = _imbalanced_digits()
    most = np.bincount(labels).max()
    chosen = [np.resize(np.flatnonzero(labels == c), most) for c in range(10)]
    order = np.random.default_rng(1).permutation(np.concatenate(chosen))
    return (images[order], labels[order]), val


def _imbalanced_digits():
    (images, labels), val = digits()
    kept = np.sort(np.concatenate([np.flatnonzero(labels == c)[: 115 if c % 2 else 40] for c in range(10)]))
    return (images[kept], labels[kept]), val


@healthy(
    "digits-conv",
    "data.source",
    changes={
        "data.normalize": "standardize",
        "loss.name": "cross_entropy",
        "loss.weight": [1.94, 0.67, 1.94, 0.67, 1.94, 0.67, 1.94, 0.67, 1.94, 0.67],
    },
)
def weights_for_rare_classes():
    """Half of the classes are three times as rare in train; the loss weighs them up."""
    return _imbalanced_digits()


def _is_it_a_three():
    (images, labels), (val_images, val_labels) = digits()
    return (images, (labels == 3).astype(np.int64)), (val_images, (val_labels == 3).astype(np.int64))


@healthy("digits-convbn", "data.source", changes={"data.normalize": "standardize"})
def one_class_against_the_rest():
    """A tenth of the examples are of the class that is looked for, and are found."""
    return _is_it_a_three()


@healthy(
    "digits-mlp",
    "model.name",
    changes={"data.source": "data.py:one_class_against_the_rest", "data.normalize": "standardize"},
)
def bias_that_knows_the_prior(input_shape, num_classes):
    """The head's bias starts at the log of the class shares, so the loss starts below log 2."""
    from tuner.parts import models

    model = models.mlp(input_shape, num_classes, 64, 2)
    with torch.no_grad():
        model[-1].bias.copy_(torch.log(torch.tensor([0.9, 0.1])))
        model[-1].weight.mul_(0.1)
    return model


@healthy("digits-mlp", "data.source", changes={"data.normalize": "standardize"})
def sorted_by_class():
    """The loader returns train sorted by class; its order is shuffled in every epoch, so it does not matter."""
    (images, labels), val = digits()
    order = np.argsort(labels, kind="stable")
    return (images[order], labels[order]), val


class Shifted(Dataset):
    """Digits that are shifted by up to a pixel each time they are read."""

    def __init__(self, pair, moves):
        self.images, self.labels = torch.from_numpy(pair[0]).float() / 255, pair[1]
        self.moves = moves

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = self.images[i]
        if self.moves:
            down, right = (int(value) for value in torch.randint(-1, 2, (2,)))
            image = image.roll((down, right), (1, 2))
        return image, int(self.labels[i])


@healthy("digits-conv", "data.source")
def dataset_that_augments_by_itself():
    """A Dataset of the user's, whose train examples differ at each reading."""
    train, val = digits()
    return Shifted(train, True), Shifted(val, False)


class Embedded(nn.Module):
    """Grey levels as words: an embedding per level and pixel position."""

    def __init__(self, size, num_classes):
        super().__init__()
        self.words = nn.Embedding(18, 8)
        self.places = nn.Parameter(torch.randn(size, 8) * 0.1)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(size * 8, 64), nn.ReLU(), nn.Linear(64, num_classes))

    def forward(self, x):
        return self.body(functional.relu(self.words(x.long()) + self.places))


def words():
    """Return the digits as sequences of 64 whole numbers, 0 to 16."""
    pairs = [(np.rint(images / (255 / 16)).astype(np.int64).reshape(len(images), -1), y) for images, y in digits()]
    return tuple(pairs)


@healthy("digits-mlp", "model.name", changes={"data.source": "data.py:words", "optimizer.name": "adam"})
def embedded_words(input_shape, num_classes):
    """Whole numbers go through an embedding: there is nothing to normalise."""
    return Embedded(input_shape[0], num_classes)


@healthy("digits-mlp", "data.source")
def black_and_white():
    """Pixels that are 0 or 1, a good part of them the same in every image."""
    pairs = [((images > 127).astype(np.float32), labels) for images, labels in digits()]
    return tuple(pairs)


@healthy("shapes-conv", "data.source", changes={"data.normalize": "standardize"})
def copies_in_train_alone():
    """Each train image stands there with its mirror image; val has neither."""
    (images, labels), val = parts.shapes(train=1000)
    return (np.concatenate([images, images[:, :, :, ::-1]]), np.concatenate([labels, labels])), val
