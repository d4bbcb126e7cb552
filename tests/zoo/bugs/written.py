"""Mistakes of all kinds in programs of other shapes: written as an exam, and developed on when it was over."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

from tests.zoo import arrays
from tests.zoo.case import bug

SHARES = [0.93, 0.07]


@bug(
    "digits-mlp",
    "train.metric",
    causes=["metric-wrong"],
    step="check-init",
    harm="number",
    changes={"train.monitor": "val_metric"},
)
def hits_of_a_column_against_a_row(outputs, targets):
    """The predictions keep a dimension of 1: every prediction is compared with every target."""
    return (outputs.argmax(1, keepdim=True) == targets).float().mean()


class SmoothedOverTheBatch(nn.Module):
    def __init__(self, smoothing=0.05):
        super().__init__()
        self.smoothing = smoothing

    def forward(self, outputs, targets):
        logs = functional.log_softmax(outputs, dim=0)
        own = logs.gather(1, targets[:, None]).squeeze(1)
        return -((1 - self.smoothing) * own + self.smoothing * logs.mean(1)).mean()


bug(
    "digits-mlp",
    name="log_softmax_over_dimension_zero",
    causes=["wrong-axis"],
    step="check-init",
    changes={"loss.name": "written.py:SmoothedOverTheBatch"},
    what="A smoothed cross-entropy, written as a class, takes its log_softmax over dimension 0.",
)


class AlongTheBatch(nn.Module):
    def __init__(self, columns, classes, hidden=48):
        super().__init__()
        self.lstm = nn.LSTM(columns, hidden)
        self.head = nn.Linear(hidden, classes)

    def forward(self, images):
        read, _ = self.lstm(images.squeeze(1))
        return self.head(read[:, -1])


@bug("digits-mlp", "model.name", causes=["batch-dependence", "wrong-axis", "scrambled-input"], step="check-init")
def lstm_that_takes_the_batch_for_time(input_shape, num_classes):
    """A recurrent layer without batch_first reads the batch as a sequence, and the last row alone."""
    return AlongTheBatch(input_shape[2], num_classes)


@bug("digits-mlp", "model.name", causes=["dead-units"], step="check-init")
def a_bias_that_shuts_a_layer(input_shape, num_classes):
    """The bias of the second convolution starts at -4: its rectifier is always off, so nothing gets through."""
    model = nn.Sequential(
        nn.Conv2d(input_shape[0], 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, num_classes),
    )  # fmt: skip
    nn.init.constant_(model[3].bias, -20.0)
    return model


@bug("digits-mlp", "model.name", causes=["over-regularised"], step="diagnose")
def keep_shares_as_dropout_rates(input_shape, num_classes):
    """Dropout of the model's own code is given the share to keep, 0.9, for the share to drop."""
    width = int(np.prod(input_shape))
    return nn.Sequential(
        nn.Flatten(), nn.Linear(width, 64), nn.ReLU(), nn.Dropout(0.9), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.9),
        nn.Linear(64, num_classes),
    )  # fmt: skip


@bug("digits-mlp", "train.step", causes=["over-regularised"], step="overfit")
def squares_of_all_weights_are_added(model, batch, loss, optimizer):
    """The training step adds a twentieth of the squares of all weights to the loss."""
    inputs, targets = batch
    optimizer.zero_grad()
    value = loss(model(inputs), targets) + 0.05 * sum(p.square().sum() for p in model.parameters())
    value.backward()
    optimizer.step()
    return value


@bug("digits-conv", "data.augment", causes=["misaligned-labels", "augmentation-harms"], step="check-init")
def blends_without_their_labels(inputs, targets, generator):
    """Mixup as augmentation: images are blended by any share, and keep their own label."""
    share = torch.rand(len(inputs), generator=generator).lt(0.5).float().mul(0.9).view(-1, 1, 1, 1)
    order = torch.randperm(len(inputs), generator=generator)
    return share * inputs[order] + (1 - share) * inputs, targets


class DividesInPlace(Dataset):
    def __init__(self, images, labels):
        self.images, self.labels = torch.from_numpy(images).float(), labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = self.images[index]
        image /= 255
        return image, int(self.labels[index])


@bug("digits-mlp", "data.source", causes=["unnormalised-input"], step="check-init")
def images_divided_in_place():
    """A Dataset divides its stored images in place: each time they are read they get smaller."""
    return tuple(DividesInPlace(*split) for split in arrays.digits())


def rare():
    """Return 2,400 rows of which 7 % are of class 1, one spread apart."""
    generator = np.random.default_rng(0)
    labels = (generator.random(2400) < SHARES[1]).astype(np.int64)
    rows = generator.normal(size=(2400, 8)) + 0.9 * labels[:, None]
    return arrays.cut(rows.astype(np.float32), labels, 1800)


@bug(
    "digits-mlp",
    "loss.name",
    causes=["class-imbalance", "smoothing-too-strong"],
    step="coarse",
    changes={"data.source": "written.py:rare"},
    twin={"data.source": "written.py:rare"},
)
def weights_are_the_shares(outputs, targets):
    """The loss weighs each class by its share, in place of the inverse: the rare one is never answered."""
    return functional.cross_entropy(outputs, targets, weight=torch.tensor(SHARES, device=outputs.device))


class Averaged(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, classes))
        self.average = {}

    def forward(self, inputs):
        return self.net(inputs)


def averaged(input_shape, num_classes):
    return Averaged(int(np.prod(input_shape)), num_classes)


def step_and_average(model, batch, loss, optimizer):
    inputs, targets = batch
    if not model.average:
        model.average = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    optimizer.step()
    for name, p in model.named_parameters():
        model.average[name].lerp_(p.detach(), 1e-4)
    return value


@bug(
    "digits-mlp",
    "train.evaluate",
    causes=["metric-wrong"],
    step="diagnose",
    harm="number",
    changes={"model.name": "written.py:averaged", "train.step": "written.py:step_and_average"},
)
def evaluates_weights_of_long_ago(model, batches, loss):
    """What is evaluated are averaged weights with a decay of 0.9999, in runs of a few hundred updates."""
    weights = model.average or dict(model.named_parameters())
    total = right = examples = 0.0
    with torch.no_grad():
        for inputs, targets in batches:
            outputs = torch.func.functional_call(model, weights, (inputs,))
            total += float(loss(outputs, targets)) * len(targets)
            right += float((outputs.argmax(1) == targets).sum())
            examples += len(targets)
    return {"loss": total / examples, "accuracy": right / examples}
