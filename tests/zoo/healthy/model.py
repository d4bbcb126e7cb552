"""Models that look unusual and are sound."""

import math

import torch
from torch import nn
from torch.nn.utils import parametrizations

from tests.zoo.case import healthy
from tuner.parts import models


@healthy("digits-mlp", "model.name")
def head_of_zeros(input_shape, num_classes, width, depth):
    """The head starts at zero: all outputs are equal, and the layers below get no gradient in the first step."""
    model = models.mlp(input_shape, num_classes, width, depth)
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    return model


@healthy("shapes-resnet", "model.name", source="Goyal et al. 2017, zero gamma in the last norm of a block")
def blocks_that_start_as_nothing(input_shape, num_classes, width):
    """The last batch norm of every block starts with gamma 0."""
    model = models.resnet8(input_shape, num_classes, width)
    for block in model.blocks:
        nn.init.zeros_(block.norm2.weight)
    return model


def cosine_filters(channels, count, size=3):
    """Return the first filters of the discrete cosine transform, one channel after the other."""
    at = (torch.arange(size) + 0.5) * math.pi / size
    waves = [torch.outer((i * at).cos(), (j * at).cos()) for i in range(size) for j in range(size)]
    filters = torch.zeros(count, channels, size, size)
    for index in range(count):
        filters[index, index % channels] = waves[index // channels % len(waves)]
    return filters / filters.flatten(1).norm(dim=1)[:, None, None, None]


def with_known_filters(input_shape, num_classes, frozen):
    known = nn.Conv2d(input_shape[0], 24, 3, padding=1)
    with torch.no_grad():
        known.weight.copy_(cosine_filters(input_shape[0], 24))
    known.requires_grad_(not frozen)
    rest = models.convnet((24, *input_shape[1:]), num_classes, 16, 2)
    return nn.Sequential(known, nn.ReLU(), rest)


@healthy("shapes-convbn", "model.name")
def known_filters_and_a_new_head(input_shape, num_classes):
    """The first layer starts from known filters, the rest from random ones."""
    return with_known_filters(input_shape, num_classes, frozen=False)


@healthy(
    "shapes-convbn",
    "model.name",
    changes={"accept.codes": ["IN114"], "accept.reason": "the first layer is a fixed cosine transform"},
)
def known_filters_frozen(input_shape, num_classes):
    """The first layer is a fixed transform, frozen on purpose and said so in the recipe."""
    return with_known_filters(input_shape, num_classes, frozen=True)


healthy(
    "digits-mlp",
    name="dropout_of_a_half",
    changes={"model.dropout": 0.5, "model.width": 256},
    what="Dropout 0.5 in both layers: the train objective is above the val loss.",
)
healthy(
    "digits-convbn",
    name="batch_norm_on_batches_of_eight",
    changes={"train.batch_size": 8, "optimizer.lr": 0.01},
    what="Batch norm with batches of eight: noisy, and it works.",
)
healthy("digits-conv", name="hyperbolic_tangent", changes={"model.activation": "tanh"}, what="tanh units.")
healthy("shapes-convbn", name="gaussian_error_units", changes={"model.activation": "gelu"}, what="GELU units.")
healthy(
    "cancer-mlp",
    name="self_normalising_units",
    changes={"model.activation": "selu", "model.init": "xavier_normal"},
    what="SELU units, which keep their own scale.",
)
healthy(
    "digits-transformer",
    name="transformer_with_dropout",
    changes={"model.dropout": 0.1},
    what="Dropout 0.1 in the blocks of a transformer.",
)
healthy("cancer-mlp", name="linear_classifier", changes={"model.depth": 0}, what="Logistic regression: enough here.")


class Inverted(nn.Module):
    """A block with a linear bottleneck: nothing bends its output, on purpose."""

    def __init__(self, channels, wide):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x):
        return x + self.body(x)


@healthy("digits-convbn", "model.name", source="Sandler et al. 2018, MobileNetV2")
def linear_bottlenecks(input_shape, num_classes):
    """Blocks that end without a nonlinearity, as in MobileNetV2."""
    stem = nn.Sequential(nn.Conv2d(input_shape[0], 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
    tail = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, num_classes))
    return nn.Sequential(stem, Inverted(16, 48), nn.MaxPool2d(2), Inverted(16, 48), tail)


class Dropped(nn.Module):
    """A block that a whole batch skips now and then while training."""

    def __init__(self, body, share):
        super().__init__()
        self.body = body
        self.share = share

    def forward(self, x):
        if self.training and float(torch.rand(())) < self.share:
            return x
        return x + self.body(x) * (1 if self.training else 1 - self.share)


@healthy("digits-conv", "model.name", source="Huang et al. 2016, stochastic depth")
def stochastic_depth(input_shape, num_classes):
    """Blocks that are skipped at random: their parameters have no gradient in some steps."""

    def block():
        return nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))

    stem = nn.Sequential(nn.Conv2d(input_shape[0], 16, 3, padding=1), nn.ReLU())
    blocks = [Dropped(block(), 0.1), nn.ReLU(), nn.MaxPool2d(2), Dropped(block(), 0.2), nn.ReLU()]
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, num_classes))


class Gated(nn.Module):
    """Channels weighed by sigmoid gates that look at the whole image."""

    def __init__(self, channels):
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(channels, 8), nn.ReLU(), nn.Linear(8, channels), nn.Sigmoid())

    def forward(self, x):
        return x * self.gate(x.mean((2, 3)))[:, :, None, None]


@healthy("shapes-convbn", "model.name", source="Hu et al. 2018, squeeze and excitation")
def sigmoid_gates(input_shape, num_classes):
    """Squeeze and excitation after each block."""

    def block(before, after):
        return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(), Gated(after)]

    layers = [*block(input_shape[0], 16), nn.MaxPool2d(2), *block(16, 32), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(128, num_classes))


class Rows(nn.Module):
    """A recurrent net that reads an image row by row."""

    def __init__(self, input_shape, num_classes):
        super().__init__()
        self.cell = nn.GRU(input_shape[0] * input_shape[2], 48, batch_first=True)
        self.head = nn.Linear(48, num_classes)

    def forward(self, x):
        return self.head(self.cell(x.permute(0, 2, 1, 3).flatten(2))[0][:, -1])


@healthy("digits-mlp", "model.name", changes={"optimizer.name": "adam", "optimizer.lr": 3e-3})
def recurrent_net(input_shape, num_classes):
    """A GRU: its gates are sigmoids, its weights are used eight times."""
    return Rows(input_shape, num_classes)


@healthy("digits-mlp", "model.name", source="Salimans and Kingma 2016, weight normalisation")
def weight_normalisation(input_shape, num_classes):
    """Each weight is a length times a direction; the weight itself is no parameter."""
    size = math.prod(input_shape)
    first = parametrizations.weight_norm(nn.Linear(size, 64))
    second = parametrizations.weight_norm(nn.Linear(64, 64))
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), nn.Linear(64, num_classes))


@healthy("shapes-conv", "model.name", source="Wu and He 2018, group normalisation")
def group_normalisation(input_shape, num_classes):
    """Group norm in place of batch norm."""

    def block(before, after):
        return [nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(4, after), nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(*block(input_shape[0], 16), *block(16, 32), nn.Flatten(), nn.Linear(32 * 16, num_classes))


class Tied(nn.Module):
    """One layer that is used three times."""

    def __init__(self, size, num_classes):
        super().__init__()
        self.first, self.shared = nn.Linear(size, 64), nn.Linear(64, 64)
        self.head = nn.Linear(64, num_classes)

    def forward(self, x):
        x = self.first(x.flatten(1)).relu()
        for _ in range(3):
            x = x + 0.5 * self.shared(x).relu()
        return self.head(x)


@healthy("digits-mlp", "model.name")
def one_layer_used_three_times(input_shape, num_classes):
    """Shared weights on purpose."""
    return Tied(math.prod(input_shape), num_classes)
