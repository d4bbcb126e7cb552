"""Bugs of labels: they belong to other inputs, have the wrong number, or are wrong themselves."""

import numpy as np
import torch

from tests.zoo import parts
from tests.zoo.arrays import cut, digits, joined
from tests.zoo.case import bug

BYTES = {"data.normalize": "standardize"}
DIGITS = {"data.source": "labels.py:digits", **BYTES}


@bug("digits-mlp", "data.source", causes=["misaligned-labels"], step="coarse", changes=BYTES, twin=DIGITS)
def images_and_labels_shuffled_in_turn():
    """Images and labels are shuffled one after the other by the same generator, which has moved on in between."""
    train, val = digits()
    images, labels = joined(train, val)
    generator = np.random.default_rng(42)
    generator.shuffle(images)
    generator.shuffle(labels)
    return cut(images, labels, len(train[1]))


@bug(
    "shapes-conv",
    "data.source",
    causes=["misaligned-labels"],
    step="coarse",
    source="https://github.com/deepchem/deepchem/pull/3695",
)
def image_files_sorted_as_text():
    """The image files are read in the order of their names as text (1, 10, 100, ...), the labels as numbers."""
    splits = []
    for images, labels in parts.shapes():
        as_read = sorted(range(len(images)), key=lambda number: f"{number}.png")
        splits.append((images[as_read], labels))
    return tuple(splits)


@bug("cifar-convbn", "data.source", causes=["misaligned-labels"], step="coarse")
def first_label_taken_for_a_header():
    """The label file's first line is skipped as a header, which it is not: each image has the label of the next."""
    return tuple((images[:-1], labels[1:]) for images, labels in parts.cifar())


@bug("cancer-mlp", "data.source", causes=["misaligned-labels"], step="coarse")
def incomplete_rows_dropped_from_the_inputs_alone():
    """Rows with a missing measurement are dropped from the table, and their labels are kept."""
    splits = []
    for rows, labels in parts.cancer():
        measured = np.random.default_rng(0).random(len(rows)) > 0.1
        complete = rows[measured]
        splits.append((complete, labels[: len(complete)]))
    return tuple(splits)


@bug("digits-convbn", "data.source", causes=["label-noise"], step="diagnose", changes=BYTES, twin=DIGITS)
def careless_annotators():
    """30 % of all labels, train and val, are those of another class."""
    generator = np.random.default_rng(1)
    splits = []
    for images, labels in digits():
        wrong = generator.random(len(labels)) < 0.3
        other = (labels + generator.integers(1, 10, len(labels))) % 10
        splits.append((images, np.where(wrong, other, labels)))
    return tuple(splits)


CONFUSED = {2: 7, 3: 8, 5: 6, 6: 5, 7: 1}


@bug(
    "digits-resnet",
    "data.source",
    causes=["label-noise"],
    step="diagnose",
    changes=BYTES,
    twin=DIGITS,
    source="Patrini et al. 2017, Making deep neural networks robust to label noise, arXiv:1609.03683, section 5",
)
def look_alikes_confused_by_annotators():
    """45 % of the train labels of five digits are those of the one they look like; val was labelled with care."""
    (images, labels), val = digits()
    wrong = np.random.default_rng(1).random(len(labels)) < 0.45
    confused = np.array([CONFUSED.get(label, label) for label in labels])
    return (images, np.where(wrong, confused, labels)), val


@bug(
    "digits-mlp",
    "data.source",
    causes=["wrong-label-range"],
    step="check-init",
    harm="crash",
    changes={**BYTES, "data.num_classes": 10},
    twin=DIGITS,
)
def labels_counted_from_one():
    """The label file counts ten classes from 1 to 10, as MATLAB does."""
    return tuple((images, labels + 1) for images, labels in digits())


@bug(
    "shapes-resnet",
    "data.source",
    causes=["train-val-shift", "misaligned-labels"],
    step="diagnose",
    source="https://github.com/anujshah1003/own_data_cnn_implementation_keras/issues/4",
)
def class_folders_numbered_as_the_disk_lists_them():
    """Train numbers its class folders as os.listdir gives them, val sorts them by name."""
    (images, labels), val = parts.shapes()
    as_listed = np.array([3, 0, 5, 1, 4, 2])
    return (images, as_listed[labels]), val


@bug("shapes-convbn", "data.augment", causes=["misaligned-labels", "augmentation-harms"], step="coarse")
def flipped_images_put_after_the_others(inputs, targets, generator):
    """Half of each batch is mirrored and put behind the other half; the targets stay in their order."""
    chosen = torch.rand(len(inputs), generator=generator, device=inputs.device) < 0.5
    return torch.cat([inputs[~chosen], inputs[chosen].flip(3)]), targets


@bug(
    "shapes-resnet",
    "data.augment",
    causes=["augmentation-harms", "label-noise"],
    step="diagnose",
)
def mixup_of_the_images_alone(inputs, targets, generator):
    """Mixup blends each image with another by a random share, and keeps the label of the first."""
    share = torch.rand(len(inputs), 1, 1, 1, generator=generator, device=inputs.device)
    other = torch.randperm(len(inputs), generator=generator, device=inputs.device)
    images = inputs.float()
    return share * images + (1 - share) * images[other], targets
