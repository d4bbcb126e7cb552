"""Training loops that look unusual and are sound."""

import copy
import weakref

import torch
from torch import nn
from torch.nn import functional

from tests.zoo.case import healthy

AVERAGES = weakref.WeakKeyDictionary()  # model -> the moving average of its weights
WAITING = weakref.WeakKeyDictionary()  # model -> batches whose gradients wait for an update


@healthy("digits-mlp", "train.step")
def gradients_are_cleared_after_the_step(model, batch, loss, optimizer):
    """zero_grad stands at the end of the step, not at its beginning."""
    inputs, targets = batch
    value = loss(model(inputs), targets)
    value.backward()
    optimizer.step()
    optimizer.zero_grad()
    return value


@healthy("digits-conv", "train.step", changes={"train.batch_size": 32})
def gradients_of_two_batches(model, batch, loss, optimizer):
    """One update for two batches, each loss divided by two: accumulation as it should be."""
    inputs, targets = batch
    value = loss(model(inputs), targets)
    (value / 2).backward()
    WAITING[model] = WAITING.get(model, 0) + 1
    if WAITING[model] == 2:
        optimizer.step()
        optimizer.zero_grad()
        WAITING[model] = 0
    return value


@healthy("shapes-convbn", "train.step", source="Zhang et al. 2018, mixup")
def mixup(model, batch, loss, optimizer):
    """Each image is mixed with another, and so is the loss: the train loss has a floor far above that of val."""
    inputs, targets = batch
    share = float(torch.distributions.Beta(1.0, 1.0).sample())
    order = torch.randperm(len(inputs))
    optimizer.zero_grad()
    outputs = model(share * inputs + (1 - share) * inputs[order])
    value = share * loss(outputs, targets) + (1 - share) * loss(outputs, targets[order])
    value.backward()
    optimizer.step()
    return value


@healthy("digits-convbn", "train.step", source="Neelakantan et al. 2015, Adding gradient noise")
def gradient_noise(model, batch, loss, optimizer):
    """A little noise is added to every gradient."""
    inputs, targets = batch
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    for item in model.parameters():
        item.grad += 0.003 * torch.randn_like(item)
    optimizer.step()
    return value


healthy(
    "shapes-conv",
    name="clipped_at_a_sane_norm",
    changes={"train.clip_norm": 1.0},
    what="Gradients are clipped at norm 1, which cuts some of them at the start.",
)
healthy(
    "digits-transformer",
    name="attention_model_clipped",
    changes={"train.clip_norm": 1.0, "optimizer.name": "adamw", "optimizer.weight_decay": 0.1},
    what="A transformer with AdamW, decay 0.1 and clipping at 1.",
)
healthy(
    "shapes-resnet", name="bf16_throughout", changes={"train.precision": "bf16"}, what="Trained under bf16 autocast."
)


@healthy("digits-mlp", "train.step", source="Foret et al. 2021, sharpness-aware minimisation")
def two_gradients_per_update(model, batch, loss, optimizer):
    """Climbs to a near point, takes the gradient there and goes back before the update."""
    inputs, targets = batch
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    with torch.no_grad():
        norm = torch.stack([item.grad.norm() for item in model.parameters()]).norm() + 1e-12
        steps = [0.02 * item.grad / norm for item in model.parameters()]
        for item, step in zip(model.parameters(), steps, strict=True):
            item += step
    optimizer.zero_grad()
    loss(model(inputs), targets).backward()
    with torch.no_grad():
        for item, step in zip(model.parameters(), steps, strict=True):
            item -= step
    optimizer.step()
    return value


@healthy(
    "digits-conv", "train.step", changes={"train.evaluate": "loop.py:evaluate_the_average"}, source="Polyak averaging"
)
def moving_average_of_the_weights(model, batch, loss, optimizer):
    """Val is measured with an average of the last weights, not with the newest."""
    inputs, targets = batch
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    optimizer.step()
    average = AVERAGES.setdefault(model, copy.deepcopy(model))
    with torch.no_grad():
        for kept, item in zip(average.parameters(), model.parameters(), strict=True):
            kept.lerp_(item, 0.1)
    return value


@torch.no_grad()
def evaluate_the_average(model, batches, loss):
    average = AVERAGES.get(model, model).eval()
    total = hits = count = 0
    for inputs, targets in batches:
        outputs = average(inputs)
        total += loss(outputs, targets).item() * len(targets)
        hits += (outputs.argmax(1) == targets).sum().item()
        count += len(targets)
    return {"loss": total / count, "accuracy": hits / count}


class DeeplySupervised(nn.Module):
    """A conv net whose first block has a head of its own, which only the step looks at."""

    def __init__(self, channels, num_classes):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.second = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.side = nn.Linear(16, num_classes)
        self.head = nn.Linear(32, num_classes)

    def forward(self, x):
        middle = self.first(x)
        self.hint = self.side(middle.mean((2, 3)))
        return self.head(self.second(middle).mean((2, 3)))


def supervised_net(input_shape, num_classes):
    return DeeplySupervised(input_shape[0], num_classes)


@healthy(
    "digits-conv",
    "train.step",
    changes={"model.name": "loop.py:supervised_net"},
    source="Szegedy et al. 2015, GoogLeNet: auxiliary classifiers with weight 0.3",
)
def auxiliary_loss(model, batch, loss, optimizer):
    """A side head adds 0.3 of its loss."""
    inputs, targets = batch
    optimizer.zero_grad()
    outputs = model(inputs)
    value = loss(outputs, targets) + 0.3 * loss(model.hint, targets)
    value.backward()
    optimizer.step()
    return value


@healthy("shapes-convbn", "train.step", source="Wu et al. 2021, R-Drop", changes={"model.dropout": 0.1})
def two_passes_that_must_agree(model, batch, loss, optimizer):
    """Two passes with other dropout masks, and a penalty on their difference."""
    inputs, targets = batch
    optimizer.zero_grad()
    one, two = model(inputs), model(inputs)
    agree = functional.kl_div(one.log_softmax(1), two.log_softmax(1), log_target=True, reduction="batchmean")
    value = (loss(one, targets) + loss(two, targets)) / 2 + 0.1 * agree
    value.backward()
    optimizer.step()
    return value
