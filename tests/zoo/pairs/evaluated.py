"""What is evaluated is an average of the weights: with the buffers of its own time, or with none."""

import copy

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tests.zoo.case import bug, healthy
from tuner.parts.models import convnet, resnet8


class Averaged(nn.Module):
    """A net that keeps an average of itself beside it, not among its modules."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.kept = []

    def forward(self, inputs):
        return self.net(inputs)


def resnet(input_shape, num_classes):
    return Averaged(resnet8(input_shape, num_classes, width=8))


def conv(input_shape, num_classes):
    return Averaged(convnet(input_shape, num_classes, width=16, depth=2))


def one_step(model, batch, loss, optimizer):
    inputs, targets = batch
    optimizer.zero_grad()
    value = loss(model(inputs), targets)
    value.backward()
    optimizer.step()
    return value


def parameters_alone(model, batch, loss, optimizer):
    """Average the parameters; the copy's buffers stay as they were at the start."""
    value = one_step(model, batch, loss, optimizer)
    if not model.kept:
        model.kept.append(copy.deepcopy(model.net))
    with torch.no_grad():
        for mean, now in zip(model.kept[0].parameters(), model.net.parameters(), strict=True):
            mean.lerp_(now, 0.1)
    return value


def buffers_too(model, batch, loss, optimizer):
    """Average the parameters, and take the buffers along."""
    value = parameters_alone(model, batch, loss, optimizer)
    for mean, now in zip(model.kept[0].buffers(), model.net.buffers(), strict=True):
        mean.copy_(now)
    return value


def averaged_model(model, batch, loss, optimizer):
    """Average the parameters as torch does, which takes the buffers along."""
    value = one_step(model, batch, loss, optimizer)
    if not model.kept:
        model.kept.append(AveragedModel(model.net, multi_avg_fn=get_ema_multi_avg_fn(0.95)))
    model.kept[0].update_parameters(model.net)
    return value


def of_the_average(model, batches, loss):
    """Evaluate the average."""
    return judged(model.kept[0] if model.kept else model.net, batches, loss)


@torch.no_grad()
def judged(net, batches, loss):
    """Return the loss and the accuracy of a net in eval mode."""
    net.eval()
    total = right = examples = 0.0
    for inputs, targets in batches:
        outputs = net(inputs)
        total += float(loss(outputs, targets)) * len(targets)
        right += float((outputs.argmax(1) == targets).sum())
        examples += len(targets)
    return {"loss": total / examples, "accuracy": right / examples}


SHAPES = {"model.name": "evaluated.py:resnet", "train.evaluate": "evaluated.py:of_the_average"}
DIGITS = {"model.name": "evaluated.py:conv", "train.evaluate": "evaluated.py:of_the_average"}

bug(
    "shapes-resnet",
    name="average_with_its_first_statistics",
    causes=["metric-wrong", "normalisation-misuse"],
    step="diagnose",
    harm="number",
    changes={**SHAPES, "train.step": "evaluated.py:parameters_alone"},
    what="The averaged parameters are evaluated with batch-norm statistics from before the first update.",
    source="https://github.com/FlyreelAI/sesemi/issues/36",
)


@bug(
    "digits-convbn",
    "train.evaluate",
    causes=["metric-wrong", "normalisation-misuse"],
    step="diagnose",
    harm="number",
)
def parameters_loaded_into_a_new_net(model, batches, loss):
    """A new net is built for the evaluation and given the parameters, not the buffers."""
    net = convnet((1, 8, 8), 10, width=16, depth=2)
    net.load_state_dict(dict(model.named_parameters()), strict=False)
    return judged(net, batches, loss)


healthy(
    "shapes-resnet",
    name="averages_with_their_buffers",
    changes={**SHAPES, "train.step": "evaluated.py:buffers_too"},
    what="The average takes the batch-norm statistics along.",
)
healthy(
    "digits-convbn",
    name="an_averaged_model_of_torch",
    changes={**DIGITS, "train.step": "evaluated.py:averaged_model"},
    what="torch's AveragedModel, which keeps the buffers in step.",
)
