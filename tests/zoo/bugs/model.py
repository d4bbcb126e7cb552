"""Bugs of the model: its initialisation, its layers, and how they are joined."""

import itertools
import math

import torch
from torch import nn
from torch.nn import functional

from tests.zoo import parts
from tests.zoo.case import bug

# --- initialisation ---------------------------------------------------------------------------------------------------


@bug(
    "digits-mlp",
    "model.init",
    causes=["bad-init-exploding"],
    step="check-init",
    changes={"model.width": 256},
    twin={"model.width": 256},
)
def weights_from_a_unit_normal(model):
    """Every weight is drawn from N(0, 1), whatever the layer's size."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight)
            nn.init.zeros_(layer.bias)


@bug(
    "shapes-conv",
    "model.init",
    causes=["bad-init-exploding"],
    step="check-init",
)
def fan_in_forgotten(model):
    """The He initialisation without its division: the standard deviation is sqrt(2), not sqrt(2 / fan_in)."""
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.weight.data.normal_(0, math.sqrt(2.0))
            layer.bias.data.zero_()


@bug(
    "cancer-mlp",
    "model.init",
    causes=["bad-init-vanishing"],
    step="check-init",
    changes={"model.depth": 8},
    twin={"model.depth": 8, "model.init": "kaiming_normal"},
    source="CS231n, lecture 6: activations of a deep net with W = 0.01 * randn",
)
def hundredth_of_a_normal_in_a_deep_net(model):
    """Weights from 0.01 N(0, 1) in a net of eight hidden layers without normalisation."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)


@bug("digits-conv", "model.init", causes=["symmetric-init"], step="check-init")
def weights_filled_with_a_constant(model):
    """All weights are filled with 0.01, where the biases were meant."""
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.weight.data.fill_(0.01)
            layer.bias.data.fill_(0.01)


@bug(
    "cancer-mlp",
    "model.init",
    causes=["symmetric-init", "dead-units", "input-ignored"],
    step="check-init",
    source="CS231n notes, neural networks part 2: pitfall: all zero initialization",
)
def all_weights_zero(model):
    """Every weight and bias starts at zero: nothing passes the rectifiers, and only the last bias learns."""
    for item in model.parameters():
        nn.init.zeros_(item)


@bug(
    "digits-mlp",
    "model.init",
    causes=["saturated-units", "bad-init-exploding"],
    step="check-init",
    changes={"model.activation": "tanh"},
    twin={"model.activation": "tanh"},
)
def xavier_with_a_gain_of_thirty(model):
    """Hidden tanh layers get Xavier's initialisation with a gain of 30: their units start at -1 or 1."""
    *hidden, _ = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    for layer in hidden:
        nn.init.xavier_normal_(layer.weight, gain=30.0)


@bug("shapes-conv", "model.init", causes=["dead-units", "input-ignored"], step="check-init")
def focal_bias_in_every_layer(model):
    """The prior's bias of a focal-loss head, -log(99), is set in every convolution as well: all units are dead."""
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias, -math.log((1 - 0.01) / 0.01))


# --- activations ------------------------------------------------------------------------------------------------------

bug(
    "digits-mlp",
    name="four_sigmoid_layers",
    causes=["bad-init-vanishing"],
    step="check-init",
    changes={"model.activation": "sigmoid", "model.depth": 4},
    twin={"model.depth": 4},
    what="Four hidden layers of sigmoids: the gradient shrinks by at least four in each.",
    source="https://ai.stackexchange.com/questions/16557",
)


@bug("shapes-conv", "model.name", causes=["missing-nonlinearity"], step="overfit")
def convolutions_without_activation(input_shape, num_classes, width, depth, batch_norm):
    """The activation between the convolutions was forgotten; with average pooling all is one linear map."""
    return nn.Sequential(
        nn.Conv2d(input_shape[0], width, 3, padding=1),
        nn.AvgPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, num_classes),
    )


@bug("shapes-resnet", "model.name", causes=["missing-nonlinearity"], step="overfit")
def activation_built_but_not_used(input_shape, num_classes, width):
    """The blocks have an activation among their layers and never call it; the pooling at the end is an average."""

    class Block(nn.Module):
        def __init__(self, before, after, stride):
            super().__init__()
            self.conv = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(after)
            self.shortcut = nn.Conv2d(before, after, 1, stride=stride)
            self.relu = nn.ReLU()

        def forward(self, x):
            return self.norm(self.conv(x)) + self.shortcut(x)

    return nn.Sequential(
        Block(input_shape[0], width, 1),
        Block(width, 2 * width, 2),
        Block(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, num_classes),
    )


@bug(
    "cifar-convbn",
    "model.name",
    causes=["double-softmax", "dead-units"],
    step="overfit",
    source="https://github.com/pytorch/examples/pull/117",
)
def relu_on_the_scores(input_shape, num_classes, width, depth):
    """The scores of the classes pass a ReLU before the loss: a class whose score is negative gets no gradient."""
    return nn.Sequential(_convnet(input_shape, num_classes, width), nn.ReLU())


# --- normalisation and dropout ----------------------------------------------------------------------------------------


@bug(
    "shapes-resnet",
    "model.name",
    causes=["normalisation-misuse"],
    step="overfit",
    source="https://github.com/Cadene/pretrained-models.pytorch/issues/5",
)
def running_statistics_never_updated(input_shape, num_classes, width):
    """Batch norm has momentum 0: evaluation uses the initial mean of 0 and variance of 1."""
    model = _convnet(input_shape, num_classes, 2 * width)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.0
    return model


@bug(
    "digits-mlp",
    "model.name",
    causes=["normalisation-misuse"],
    step="overfit",
    changes={"train.batch_size": 8},
    twin={"train.batch_size": 8, "model.name": "model.py:perceptron_with_batch_norm"},
    source="https://github.com/kazuto1011/deeplab-pytorch/issues/79",
)
def momentum_of_another_library(input_shape, num_classes, width, depth):
    """Batch norm has momentum 0.999, as in TensorFlow, where it means the opposite: the last batch alone counts."""
    return perceptron_with_batch_norm(input_shape, num_classes, width, depth, momentum=0.999)


def perceptron_with_batch_norm(input_shape, num_classes, width, depth, momentum=0.1):
    """Build a sound perceptron with batch norm, where the momentum is left as it is."""
    layers, before = [nn.Flatten()], math.prod(input_shape)
    for _ in range(depth):
        layers += [nn.Linear(before, width, bias=False), nn.BatchNorm1d(width, momentum=momentum), nn.ReLU()]
        before = width
    return nn.Sequential(*layers, nn.Linear(before, num_classes))


@bug(
    "cifar-convbn",
    "model.name",
    causes=["normalisation-misuse", "eval-mode-in-training"],
    step="check-init",
)
def batch_norm_frozen_from_the_start(input_shape, num_classes, width, depth):
    """The habit of detectors, batch norm kept in eval mode while training, in a model that was never pretrained."""

    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = _convnet(input_shape, num_classes, width)

        def train(self, mode=True):
            super().train(mode)
            for layer in self.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()
                    layer.weight.requires_grad_(False)
                    layer.bias.requires_grad_(False)
            return self

        def forward(self, x):
            return self.net(x)

    return Frozen()


@bug("digits-mlp", "model.name", causes=["batch-dependence", "wrong-axis"], step="check-init")
def normalised_over_the_batch(input_shape, num_classes, width, depth):
    """functional.normalize is called with dim=0, the batch, where the features of an example were meant."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(math.prod(input_shape), width)
            self.second = nn.Linear(width, width)
            self.head = nn.Linear(width, num_classes)

        def forward(self, x):
            x = functional.relu(self.first(functional.normalize(x.flatten(1), dim=0)))
            x = functional.relu(self.second(functional.normalize(x, dim=0)))
            return self.head(x)

    return Net()


@bug(
    "digits-convbn",
    "model.name",
    causes=["train-mode-in-eval"],
    step="check-init",
    source="https://github.com/Coderx7/SimpleNet/issues/2",
)
def functional_dropout_in_evaluation(input_shape, num_classes, width, depth):
    """Functional dropout is called without `training=self.training`, so it is active in evaluation."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            *features, self.head = _convnet(input_shape, num_classes, width)
            self.features = nn.Sequential(*features)

        def forward(self, x):
            return self.head(functional.dropout(self.features(x), 0.5))

    return Net()


@bug(
    "digits-transformer",
    "model.name",
    causes=["train-mode-in-eval"],
    step="check-init",
    source="https://github.com/yangze0930/NTS-Net/issues/14",
)
def dropout_built_in_forward(input_shape, num_classes):
    """A dropout layer is made within forward, where model.eval() does not reach it."""

    class Net(parts.Transformer):
        def forward(self, x):
            x = self.embed(x).flatten(2).transpose(1, 2) + self.positions
            x = nn.Dropout(p=0.5)(self.norm(self.blocks(x)).mean(1))
            return self.head(x)

    return Net(input_shape, num_classes, **SMALL)


# --- parameters that do not learn -------------------------------------------------------------------------------------


@bug(
    "shapes-convbn",
    "model.name",
    causes=["untrained-parameters"],
    step="check-init",
    source="https://github.com/lucidrains/CoCa-pytorch/issues/6",
)
def features_detached(input_shape, num_classes, width, depth):
    """The features are detached before the head, as for a plot: the convolutions keep their random weights."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            *features, self.head = _convnet(input_shape, num_classes, width)
            self.features = nn.Sequential(*features)

        def forward(self, x):
            features = self.features(x).detach()
            return self.head(features)

    return Net()


@bug("cifar-resnet", "model.name", causes=["untrained-parameters"], step="check-init")
def random_backbone_frozen(input_shape, num_classes, width):
    """The backbone is frozen as for fine-tuning, but its weights are random: none were loaded."""
    model = _convnet(input_shape, num_classes, width)
    for layer in model[:-1]:
        layer.requires_grad_(False)
    return model


@bug(
    "shapes-conv",
    "model.name",
    causes=["untrained-parameters"],
    step="check-init",
    source="https://github.com/kanezaki/pytorch-unsupervised-segmentation/pull/6",
)
def layers_in_a_plain_list(input_shape, num_classes, width, depth, batch_norm):
    """The convolutions stand in a Python list, not a ModuleList: parameters() does not know them."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            widths = [input_shape[0], *(width * 2**index for index in range(depth))]
            self.convolutions = [nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths)]
            self.head = nn.Linear(widths[-1], num_classes)

        def forward(self, x):
            for convolution in self.convolutions:
                x = functional.max_pool2d(functional.relu(convolution(x)), 2)
            return self.head(x.mean((2, 3)))

    return Net()


@bug("digits-resnet", "model.name", causes=["untrained-parameters"], step="check-init")
def shortcut_added_to_itself(input_shape, num_classes, width):
    """The residual blocks return x + x where x + y was meant: their convolutions have no effect."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
            self.norm1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
            self.norm2 = nn.BatchNorm2d(width)

        def forward(self, x):
            y = functional.relu(self.norm1(self.conv1(x)))
            y = self.norm2(self.conv2(y))
            return functional.relu(x + x)

    return nn.Sequential(
        nn.Conv2d(input_shape[0], width, 3, padding=1),
        nn.ReLU(),
        *[Block() for _ in range(3)],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, num_classes),
    )


# --- structure --------------------------------------------------------------------------------------------------------


@bug(
    "digits-transformer",
    "model.name",
    causes=["batch-dependence"],
    step="check-init",
    twin={"model.name": "model.py:encoder_of_rows"},
    source="https://github.com/IBM/TabFormer/pull/14",
)
def attention_over_the_batch(input_shape, num_classes):
    """The encoder gets (batch, tokens, width) and was built without batch_first: examples attend to each other."""
    return encoder_of_rows(input_shape, num_classes, batch_first=False)


def encoder_of_rows(input_shape, num_classes, batch_first=True):
    """Build an encoder that takes each row of pixels as a token."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            channels, height, columns = input_shape
            self.embed = nn.Linear(channels * columns, 32)
            self.positions = nn.Parameter(torch.randn(1, height, 32) * 0.02)
            layer = nn.TransformerEncoderLayer(32, 2, dim_feedforward=64, dropout=0.0, batch_first=batch_first)
            self.encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
            self.head = nn.Linear(32, num_classes)

        def forward(self, x):
            rows = x.transpose(1, 2).flatten(2)
            return self.head(self.encoder(self.embed(rows) + self.positions).mean(1))

    return Net()


@bug(
    "digits-transformer",
    "model.name",
    causes=["batch-dependence", "wrong-axis"],
    step="check-init",
    source="https://github.com/PetrochukM/PyTorch-NLP/issues/2",
)
def attention_softmax_over_the_batch(input_shape, num_classes):
    """The softmax of the attention is taken over dimension 0, which is the batch, not over the keys."""

    class Block(parts.Block):
        def attention(self, x):
            n, tokens, width = x.shape
            query, key, value = self.qkv(x).view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
            scores = functional.softmax(query @ key.transpose(-2, -1) / math.sqrt(width // self.heads), dim=0)
            return self.mix((scores @ value).transpose(1, 2).reshape(n, tokens, width))

    model = parts.Transformer(input_shape, num_classes, **SMALL)
    model.blocks = nn.Sequential(*[Block(SMALL["width"], SMALL["heads"], 0.0) for _ in range(SMALL["depth"])])
    return model


@bug(
    "digits-transformer",
    "model.name",
    causes=["batch-dependence", "scrambled-input"],
    step="check-init",
    source="https://github.com/zhouhaoyi/Informer2020/issues/59",
)
def view_in_place_of_transpose(input_shape, num_classes):
    """The tokens are brought to (tokens, batch, width) by view, which mixes the tokens of different examples."""

    class Net(parts.Transformer):
        def forward(self, x):
            x = self.embed(x).flatten(2).transpose(1, 2) + self.positions
            n, tokens, width = x.shape
            x = x.contiguous().view(tokens, n, width)
            x = self.blocks(x.transpose(0, 1))
            return self.head(self.norm(x).mean(1))

    return Net(input_shape, num_classes, **SMALL)


@bug("shapes-convbn", "model.name", causes=["scrambled-input"], step="diagnose")
def channels_last_viewed_as_channels_first(input_shape, num_classes, width, depth):
    """Images are permuted to channels last for a plot and brought back by reshape: rows and colours are mixed."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = _convnet(input_shape, num_classes, width)

        def forward(self, x):
            x = x.permute(0, 2, 3, 1).contiguous()
            return self.net(x.reshape(len(x), *input_shape))

    return Net()


@bug(
    "digits-transformer",
    "model.name",
    causes=["scrambled-input", "capacity-too-small"],
    step="diagnose",
    source="https://github.com/DiffPoseTalk/DiffPoseTalk/issues/20",
)
def one_position_for_all_tokens(input_shape, num_classes):
    """A slice was forgotten, so every token gets the same position: the model cannot tell where a patch was."""

    class Net(parts.Transformer):
        def forward(self, x):
            x = self.embed(x).flatten(2).transpose(1, 2)
            x = x + self.positions[:, x.shape[1] - 1]
            return self.head(self.norm(self.blocks(x)).mean(1))

    return Net(input_shape, num_classes, **SMALL)


@bug("digits-conv", "model.name", causes=["capacity-too-small"], step="overfit")
def bottleneck_of_one_unit(input_shape, num_classes, width, depth, batch_norm):
    """A bottleneck is width // 16 units wide, which is one: everything about an image passes through one number."""
    return nn.Sequential(
        nn.Conv2d(input_shape[0], width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(width * (input_shape[1] // 2) * (input_shape[2] // 2), width // 16),
        nn.ReLU(),
        nn.Linear(width // 16, 2 * width),
        nn.ReLU(),
        nn.Linear(2 * width, num_classes),
    )


@bug("digits-mlp", "model.name", causes=["input-ignored"], step="check-init")
def input_overwritten_by_a_constant(input_shape, num_classes, width, depth):
    """A shape check of an earlier day is still there: forward replaces its input by ones."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(math.prod(input_shape), width), nn.ReLU(), nn.Linear(width, num_classes))

        def forward(self, x):
            x = torch.ones(len(x), math.prod(input_shape))
            return self.net(x)

    return Net()


@bug("cancer-mlp", "model.name", causes=["precision-problem"], step="check-init", harm="crash")
def inputs_in_double_precision(input_shape, num_classes, width, depth):
    """Inputs become double, as NumPy has them, and the weights are single: the first layer raises."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(math.prod(input_shape), width), nn.ReLU(), nn.Linear(width, num_classes))

        def forward(self, x):
            return self.net(x.double())

    return Net()


SMALL = {"width": 32, "depth": 2, "heads": 2, "patches": 4, "positions": True, "dropout": 0.0}


def _convnet(input_shape, num_classes, width):
    """Build a sound net, for a case to spoil: two blocks of convolution, batch norm, ReLU and pooling, and a head."""
    channels = input_shape[0]
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, num_classes),
    )
