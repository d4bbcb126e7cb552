"""Bugs of evaluation: what is reported is not what the model can do."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

from tests.zoo import parts
from tests.zoo.case import bug


@bug("digits-mlp", "train.evaluate", causes=["metric-wrong", "wrong-axis"], step="check-init", harm="number")
def argmax_over_the_whole_batch(model, batches, loss):
    """The argmax has no axis: it is one index into the whole batch, compared with every target."""
    model.eval()
    losses, hits, count = 0.0, 0, 0
    with torch.no_grad():
        for inputs, targets in batches:
            outputs = model(inputs)
            losses += loss(outputs, targets).item() * len(targets)
            hits += (outputs.argmax() == targets).sum().item()
            count += len(targets)
    return {"loss": losses / count, "accuracy": hits / count}


@bug(
    "cifar-convbn",
    "train.evaluate",
    causes=["metric-wrong"],
    step="check-init",
    harm="number",
    changes={"data.images": 2890},
    twin={"data.images": 2890},
    source="https://github.com/facebookarchive/fb.resnet.torch/pull/75",
)
def mean_of_the_batches_accuracies(model, batches, loss):
    """The accuracy is the mean over batches; the last has 2 examples, and counts like one of 64."""
    model.eval()
    losses, accuracies = [], []
    with torch.no_grad():
        for inputs, targets in batches:
            outputs = model(inputs)
            losses.append(loss(outputs, targets).item())
            accuracies.append((outputs.argmax(1) == targets).float().mean().item())
    return {"loss": float(np.mean(losses)), "accuracy": float(np.mean(accuracies))}


@bug("cifar-resnet", "train.evaluate", causes=["metric-wrong"], step="check-init", harm="number")
def top_5_called_accuracy(model, batches, loss):
    """A helper that counts a hit among the five largest outputs, as for ImageNet, gives the accuracy."""
    model.eval()
    losses, hits, count = 0.0, 0, 0
    with torch.no_grad():
        for inputs, targets in batches:
            outputs = model(inputs)
            losses += loss(outputs, targets).item() * len(targets)
            best = outputs.topk(5, dim=1).indices
            hits += (best == targets[:, None]).any(dim=1).sum().item()
            count += len(targets)
    return {"loss": losses / count, "accuracy": hits / count}


seen = {"hits": 0, "count": 0}


@bug("shapes-conv", "train.evaluate", causes=["metric-wrong"], step="check-init", harm="number")
def counts_never_set_back(model, batches, loss):
    """The counts of the accuracy live on from one evaluation to the next, over train and val."""
    model.eval()
    losses, count = 0.0, 0
    with torch.no_grad():
        for inputs, targets in batches:
            outputs = model(inputs)
            losses += loss(outputs, targets).item() * len(targets)
            count += len(targets)
            seen["hits"] += (outputs.argmax(1) == targets).sum().item()
            seen["count"] += len(targets)
    return {"loss": losses / count, "accuracy": seen["hits"] / seen["count"]}


@bug("cifar-resnet", "train.evaluate", causes=["metric-wrong", "val-too-small"], step="check-init", harm="number")
def returns_after_the_first_batch(model, batches, loss):
    """The return is indented one level too far: only the first batch is evaluated."""
    model.eval()
    losses, hits, count = 0.0, 0, 0
    with torch.no_grad():
        for inputs, targets in batches:
            outputs = model(inputs)
            losses += loss(outputs, targets).item() * len(targets)
            hits += (outputs.argmax(1) == targets).sum().item()
            count += len(targets)
            return {"loss": losses / count, "accuracy": hits / count}


@bug(
    "cifar-convbn",
    "train.evaluate",
    causes=["metric-wrong"],
    step="check-init",
    harm="number",
    source="https://github.com/uclnlp/jack/issues/174",
)
def hits_divided_by_full_batches(model, batches, loss):
    """The hits are divided by the number of batches times 64, though the last batch is smaller."""
    model.eval()
    losses, hits = 0.0, 0
    with torch.no_grad():
        for inputs, targets in batches:
            outputs = model(inputs)
            losses += loss(outputs, targets).item()
            hits += (outputs.argmax(1) == targets).sum().item()
    return {"loss": losses / len(batches), "accuracy": hits / (len(batches) * 64)}


@bug("cancer-mlp", "train.evaluate", causes=["metric-wrong"], step="check-init", harm="number")
def probability_squashed_again_before_the_threshold(model, batches, loss):
    """The probability of class 1 goes through a sigmoid before it is held against 0.5: few answers are 0."""
    model.eval()
    losses, hits, count = 0.0, 0, 0
    with torch.no_grad():
        for inputs, targets in batches:
            outputs = model(inputs)
            losses += loss(outputs, targets).item() * len(targets)
            answers = torch.sigmoid(outputs.softmax(dim=1)[:, 1]) > 0.5
            hits += (answers.long() == targets).sum().item()
            count += len(targets)
    return {"loss": losses / count, "accuracy": hits / count}


class DroppedOut(nn.Module):
    """Two hidden layers with dropout between them."""

    def __init__(self, features, width, num_classes):
        super().__init__()
        self.hidden = nn.Linear(features, width)
        self.second = nn.Linear(width, width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        x = functional.dropout(self.hidden(x.flatten(1)).relu(), 0.5)
        x = functional.dropout(self.second(x).relu(), 0.5)
        return self.head(x)


@bug(
    "digits-mlp",
    "model.name",
    causes=["train-mode-in-eval"],
    step="check-init",
    twin={"model.dropout": 0.5},
    source="https://github.com/pytorch/pytorch/issues/26338",
)
def functional_dropout_never_switched_off(input_shape, num_classes, width, depth):
    """functional.dropout is not told whether the model trains, and so drops in evaluation too."""
    return DroppedOut(int(np.prod(input_shape)), width, num_classes)


class Transformed(Dataset):
    """Images with a random shift, and a patch that hides a part of them."""

    def __init__(self, images, labels, transform):
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = torch.from_numpy(self.images[index])
        return (_shifted_and_hidden(image) if self.transform else image), self.labels[index]


def _shifted_and_hidden(image):
    down, right, top, left = torch.randint(-5, 6, (4,)).tolist()
    image = image.roll((down, right), (1, 2))
    image[:, 8 + top - 3 : 8 + top + 3, 8 + left - 3 : 8 + left + 3] = 0
    return image


def train_transformed_alone():
    """Return shapes of which train has the random transform, and val has none."""
    train, val = parts.shapes()
    return Transformed(*train, True), Transformed(*val, False)


@bug(
    "shapes-conv",
    "data.source",
    causes=["train-mode-in-eval", "train-val-shift"],
    step="check-init",
    twin={"data.source": "evaluation.py:train_transformed_alone"},
)
def val_shares_the_random_transform():
    """Train and val are subsets of one Dataset, so that val gets its random transform too."""
    train, val = parts.shapes()
    return Transformed(*train, True), Transformed(*val, True)
