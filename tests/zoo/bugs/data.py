"""Bugs of inputs: their numbers, their order, their copies, their splits and their augmentation."""

import itertools

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from tests.zoo import parts
from tests.zoo.arrays import cut, digits, joined
from tests.zoo.case import bug
from tuner.parts.models import mlp

BYTES = {"data.normalize": "standardize"}
AS_IT_IS = {"data.normalize": "none"}
DIGITS = {"data.source": "data.py:digits", **BYTES}

# --- numbers ------------------------------------------------------------------------------------------------------

bug(
    "digits-conv",
    name="raw_pixels",
    what="The model gets pixels of 0 to 255.",
    causes=["unnormalised-input"],
    step="check-init",
    changes=AS_IT_IS,
)

bug(
    "digits-mlp",
    name="divided_by_255_twice",
    what="Pixels that are within 0 to 1 already are divided by 255 once more.",
    causes=["unnormalised-input"],
    step="check-init",
    changes={"data.normalize": {"mean": [0.0], "std": [255.0]}},
)

bug(
    "cancer-mlp",
    name="columns_of_a_table_not_scaled",
    what="The columns of the table keep their units: the largest is a million times the smallest.",
    causes=["unnormalised-input"],
    step="check-init",
    changes={"data.scale": False},
)


@bug("cancer-mlp", "data.source", causes=["non-finite-input"], step="check-init")
def missing_measurements_read_as_nan():
    """Five measurements of the table are empty, and are read as NaN."""
    (rows, labels), val = parts.cancer()
    generator = np.random.default_rng(0)
    rows[generator.integers(0, len(rows), 5), generator.integers(0, rows.shape[1], 5)] = np.nan
    return (rows, labels), val


@bug("digits-mlp", "data.source", causes=["non-finite-input"], step="check-init", twin=DIGITS)
def pixels_that_never_vary_divided_by_their_spread():
    """Each pixel is divided by its standard deviation, which is 0 in the corners of the images."""
    train, val = digits()
    mean, std = train[0].mean(0), train[0].std(0)
    return tuple((((images - mean) / std).astype(np.float32), labels) for images, labels in (train, val))


@bug("cifar-resnet", "data.source", causes=["constant-input"], step="check-init")
def scaled_pixels_cast_back_to_bytes():
    """Pixels are divided by 255 and cast back to bytes: all but pure white become 0."""
    return tuple(((images / 255).astype(np.uint8), labels) for images, labels in parts.cifar())


# --- which example, and in which order ----------------------------------------------------------------------------


class LazyImages(Dataset):
    """Opens the image file when the first image is asked for."""

    def __init__(self, images, labels):
        self.images, self.labels, self.image = images, labels, None

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        if self.image is None:
            self.image = self.images[index]
        return self.image, self.labels[index]


@bug("shapes-convbn", "data.source", causes=["constant-input", "repeated-data", "input-ignored"], step="check-init")
def first_image_kept_for_all():
    """The Dataset keeps the image that it opened first, and gives it for every index."""
    train, val = parts.shapes()
    return LazyImages(*train), LazyImages(*val)


class Cached(Dataset):
    """Keeps decoded images, as many as fit."""

    def __init__(self, images, labels, room=48):
        self.images, self.labels = images[:room], labels[:room]
        self.size = len(images)

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return self.images[index % len(self.images)], self.labels[index % len(self.labels)]


@bug("shapes-resnet", "data.source", causes=["repeated-data", "too-little-data"], step="check-init")
def cache_with_room_for_few():
    """The Dataset's cache holds 48 images, and every other index wraps around to one of them."""
    train, val = parts.shapes()
    return Cached(*train), val


class Reader(Dataset):
    """Gives one record after the other."""

    def __init__(self, images, labels):
        self.size = len(labels)
        self.records = itertools.cycle(list(zip(images, labels, strict=True)))

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return next(self.records)


@bug("digits-conv", "data.source", causes=["unshuffled-data"], step="check-init", changes=BYTES, twin=DIGITS)
def reader_that_takes_no_index():
    """The Dataset reads a file sorted by class from front to back, whatever index is asked for."""
    (images, labels), val = digits()
    by_class = np.argsort(labels, kind="stable")
    return Reader(images[by_class], labels[by_class]), val


@bug(
    "shapes-resnet",
    "data.source",
    causes=["train-val-shift", "unshuffled-data"],
    step="check-init",
    source="https://keras.io/api/models/model_training_apis/#fit-method: validation_split takes the last samples, "
    "before shuffling",
)
def last_fifth_of_sorted_data_as_val():
    """The examples are sorted by class, and val is the last fifth of them."""
    images, labels = joined(*parts.shapes())
    by_class = np.argsort(labels, kind="stable")
    return cut(images[by_class], labels[by_class], 4 * len(labels) // 5)


@bug("cifar-convbn", "data.source", causes=["too-little-data"], step="diagnose")
def subset_left_from_debugging():
    """The loader still stops after 150 examples, as it did for debugging."""
    (images, labels), val = parts.cifar()
    return (images[:150], labels[:150]), val


@bug(
    "shapes-convbn",
    "data.source",
    causes=["scrambled-input"],
    step="check-init",
    source="https://github.com/jeya-maria-jose/TransWeather/issues/2",
)
def channels_first_by_reshape():
    """Images of (height, width, channels) are reshaped to (channels, height, width), not transposed."""
    splits = []
    for images, labels in parts.shapes():
        as_decoded = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        splits.append((as_decoded.reshape(images.shape), labels))
    return tuple(splits)


class FlattenedWrong(nn.Module):
    """Brings the pixels in front, as another library wants them, and flattens."""

    def forward(self, x):
        return x.permute(1, 2, 3, 0).reshape(len(x), -1)


@bug("digits-mlp", "model.name", causes=["scrambled-input", "batch-dependence"], step="check-init")
def flattened_across_the_batch(input_shape, num_classes, width, depth):
    """The model reshapes (pixels, batch) to (batch, pixels): every row holds pixels of many examples."""
    return nn.Sequential(FlattenedWrong(), mlp((int(np.prod(input_shape)),), num_classes, width, depth))


# --- splits -------------------------------------------------------------------------------------------------------


def _scaled(images):
    return images.astype(np.float32) / 255


@bug("cifar-resnet", "data.source", causes=["train-val-shift"], step="check-init", changes=AS_IT_IS)
def val_not_normalised():
    """Train is standardised, val is only divided by 255."""
    (images, labels), (val_images, val_labels) = parts.cifar()
    train = _scaled(images)
    mean, std = train.mean((0, 2, 3), keepdims=True), train.std((0, 2, 3), keepdims=True)
    return ((train - mean) / std, labels), (_scaled(val_images), val_labels)


@bug("cifar-convbn", "data.source", causes=["train-val-shift"], step="diagnose")
def val_in_blue_green_red():
    """Train is read by a library that gives red, green, blue; val by one that gives blue, green, red."""
    train, (images, labels) = parts.cifar()
    return train, (images[:, ::-1].copy(), labels)


@bug("digits-transformer", "data.source", causes=["train-val-shift"], step="check-init", changes=BYTES, twin=DIGITS)
def val_scanned_dark_on_white():
    """Train digits are white on black, those of val dark on white paper."""
    train, (images, labels) = digits()
    return train, (255 - images, labels)


@bug(
    "digits-resnet",
    "data.source",
    causes=["train-val-shift"],
    step="diagnose",
    changes=BYTES,
    twin=DIGITS,
    source="https://github.com/pytorch/vision/issues/8783",
)
def train_images_transposed():
    """The train images come from a file in MATLAB's order, and are transposed; those of val are not."""
    (images, labels), val = digits()
    return (images.transpose(0, 1, 3, 2).copy(), labels), val


def few_digits():
    """Return 320 digits as train, and others as val."""
    (images, labels), val = digits()
    return (images[:320], labels[:320]), val


@bug(
    "digits-mlp",
    "data.source",
    causes=["train-val-overlap"],
    step="check-init",
    harm="number",
    changes=BYTES,
    twin={"data.source": "data.py:few_digits", **BYTES},
)
def trained_on_the_set_before_its_split():
    """The model is trained on all images (X, y), not on those of the train split (X_train, y_train)."""
    train, val = few_digits()
    return joined(train, val), val


@bug(
    "digits-convbn",
    "data.source",
    causes=["train-val-overlap"],
    step="check-init",
    harm="number",
    changes=BYTES,
    twin=DIGITS,
)
def val_reads_the_train_file():
    """The line that reads val was copied from the one that reads train, with its path."""
    train, _ = digits()
    return train, train


def _with_copies(images, labels):
    """Return each image with three copies that are a little brighter or darker, with some noise."""
    generator = np.random.default_rng(0)
    copies = [images]
    for gain in (0.9, 1.0, 1.1):
        copies.append(np.clip(gain * images + generator.normal(0, 8, images.shape), 0, 255).astype(np.uint8))
    return np.concatenate(copies), np.tile(labels, 4)


def augmented_copies_after_the_split():
    """Return 320 digits with three copies of each, and other digits as val."""
    (images, labels), val = digits()
    return _with_copies(images[:320], labels[:320]), val


@bug(
    "digits-mlp",
    "data.source",
    causes=["train-val-overlap"],
    step="check-init",
    harm="number",
    changes=BYTES,
    twin={"data.source": "data.py:augmented_copies_after_the_split", **BYTES},
)
def augmented_copies_before_the_split():
    """Each image gets three copies, brighter or darker and noisy, before train and val are drawn."""
    (images, labels), _ = digits()
    images, labels = _with_copies(images[:400], labels[:400])
    order = np.random.default_rng(1).permutation(len(labels))
    return cut(images[order], labels[order], 4 * len(labels) // 5)


RARE = 40


def _rare(labels):
    """Return which examples stay when four classes are rare."""
    rank = np.array([np.sum(labels[:i] == label) for i, label in enumerate(labels)])
    return (labels < 6) | (rank < RARE)


def oversampled_after_the_split():
    """Return CIFAR-10 images of which four classes are rare, those of train repeated until all are equally frequent."""
    (images, labels), val = parts.cifar()
    kept = _rare(labels)
    images, labels = images[kept], labels[kept]
    repeats = np.where(labels < 6, 1, 6)
    return (np.repeat(images, repeats, axis=0), np.repeat(labels, repeats)), val


@bug(
    "cifar-resnet",
    "data.source",
    causes=["train-val-overlap"],
    step="check-init",
    harm="number",
    twin={"data.source": "data.py:oversampled_after_the_split"},
    source="Vandewiele et al. 2021, Overly optimistic prediction results on imbalanced data, Artif. Intell. Med. 111",
)
def oversampled_before_the_split():
    """Rare classes are repeated until all are equally frequent, and then train and val are drawn."""
    images, labels = joined(*parts.cifar())
    kept = _rare(labels)
    images, labels = images[kept], labels[kept]
    repeats = np.where(labels < 6, 1, 6)
    drawn = np.random.default_rng(0).permutation(repeats.sum())
    return cut(np.repeat(images, repeats, axis=0)[drawn], np.repeat(labels, repeats)[drawn], 4 * len(drawn) // 5)


@bug(
    "cancer-mlp",
    "data.source",
    causes=["target-leak", "train-val-shift"],
    step="coarse",
    source="Perlich et al. 2008, Breast cancer identification: KDD Cup winner's report, SIGKDD Explorations 10(2)",
)
def patient_number_as_a_column():
    """The patient's number is a column: numbers were given clinic by clinic, and val comes from a new clinic."""
    (rows, labels), (val_rows, val_labels) = parts.cancer()
    generator = np.random.default_rng(0)
    number = np.where(labels == 1, 2.0, -2.0) + generator.normal(0, 0.2, len(labels))
    new = generator.normal(0, 2.0, len(val_labels))
    train = np.column_stack([rows, number]).astype(np.float32)
    return (train, labels), (np.column_stack([val_rows, new]).astype(np.float32), val_labels)


@bug("shapes-convbn", "data.source", causes=["class-imbalance", "train-val-shift"], step="check-init")
def three_classes_lost_in_a_filter():
    """A filter by file size removed all but three train images of each of three classes; val was made by hand."""
    (images, labels), val = parts.shapes()
    rank = np.array([np.sum(labels[:i] == label) for i, label in enumerate(labels)])
    kept = (labels < 3) | (rank < 3)
    return (images[kept], labels[kept]), val


# --- augmentation -------------------------------------------------------------------------------------------------

bug(
    "digits-resnet",
    name="digits_mirrored_both_ways",
    what="The augmentation of photographs, mirrored both ways, is used for digits.",
    causes=["augmentation-harms"],
    step="diagnose",
    changes={"data.augment": ["hflip", "vflip"]},
    source="https://github.com/chrischute/real-nvp/issues/5",
)

bug(
    "digits-conv",
    name="cutout_as_large_as_the_image",
    what="Cutout blanks 8 x 8 pixels, right for images of 32 x 32, of images of 8 x 8.",
    causes=["augmentation-harms"],
    step="diagnose",
    changes={"data.augment": ["cutout"]},
)

bug(
    "digits-mlp",
    name="crops_padded_for_larger_images",
    what="Random crops shift images of 8 x 8 by up to 4 pixels, the padding of images of 32 x 32.",
    causes=["augmentation-harms"],
    step="diagnose",
    changes={"data.augment": ["random_crop"]},
)


@bug("digits-convbn", "data.augment", causes=["augmentation-harms", "train-val-shift"], step="diagnose")
def noise_clamped_to_the_unit_interval(inputs, targets, generator):
    """Noise is added and the result kept within 0 to 1, though the pixels go up to 255."""
    noise = torch.randn(inputs.shape, generator=generator, device=inputs.device)
    return (inputs.float() + 0.1 * noise).clamp(0, 1), targets
