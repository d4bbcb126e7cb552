"""Weight initialisations: functions `init(model, **args)` that set the weights of convolutions and linear layers.

One may ask for `inputs` (some examples of train, as the model sees them) and `targets` (all labels of train). Biases
become zero. Normalisation layers and everything else keep what the model gave them. Adding one is adding a
function. The last linear layer (the head) is followed by no activation: the kaiming rules take gain 1 for it, and the
square root of 2 elsewhere.
Source: Glorot and Bengio 2010 (xavier); He et al. 2015 (kaiming); Saxe et al. 2014 (orthogonal).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tuner.core.errors import UsageError

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def kaiming_normal(model: nn.Module) -> None:
    """Draw from N(0, gain^2 / fan_in): keeps the size of activations through ReLU layers."""
    for weight, is_head in _weights(model):
        nn.init.kaiming_normal_(weight, nonlinearity="linear" if is_head else "relu")


def kaiming_uniform(model: nn.Module) -> None:
    """Draw from U(-b, b), b = gain sqrt(3 / fan_in): the same variance as `kaiming_normal`."""
    for weight, is_head in _weights(model):
        nn.init.kaiming_uniform_(weight, nonlinearity="linear" if is_head else "relu")


def xavier_normal(model: nn.Module) -> None:
    """Draw from N(0, 2 / (fan_in + fan_out)): for tanh and linear layers."""
    for weight, _ in _weights(model):
        nn.init.xavier_normal_(weight)


def xavier_uniform(model: nn.Module) -> None:
    """Draw from U(-b, b), b = sqrt(6 / (fan_in + fan_out)): the same variance as `xavier_normal`."""
    for weight, _ in _weights(model):
        nn.init.xavier_uniform_(weight)


def orthogonal(model: nn.Module) -> None:
    """Draw orthogonal matrices, with the gain of ReLU but for the head."""
    for weight, is_head in _weights(model):
        nn.init.orthogonal_(weight, gain=1.0 if is_head else math.sqrt(2))


def normal(model: nn.Module, std: float = 0.01) -> None:
    """Draw from N(0, std^2), whatever the layer's size: deep nets without normalisation vanish or explode under it.

    When: to see that; shallow nets.
    std: 0.001 to 0.1, log.
    Source: the lecture, weight initialisation: small random numbers.
    """
    for weight, _ in _weights(model):
        nn.init.normal_(weight, std=std)


def truncated(model: nn.Module, std: float = 0.02) -> None:
    """Draw from N(0, std^2), again where the draw is more than two std away.

    When: transformers.
    std: 0.005 to 0.1, log.
    Source: J. Devlin et al. 2018, BERT (0.02).
    """
    for weight, _ in _weights(model):
        nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def constant(model: nn.Module, value: float = 0.0) -> None:
    """Set every weight to one value: all units of a layer compute and learn the same.

    When: to see that; never to train.
    Source: the lecture, weight initialisation: what if all weights are the same constant?
    """
    for weight, _ in _weights(model):
        nn.init.constant_(weight, value)


@torch.no_grad()
def lsuv(model: nn.Module, inputs: Tensor, tolerance: float = 0.05, rounds: int = 10) -> None:
    """Begin with orthogonal weights, and scale each layer until its outputs on examples have variance 1, first to last.

    When: deep nets whose activations neither Kaiming nor Xavier was derived for.
    Source: D. Mishkin, J. Matas 2015, All you need is a good init.
    """
    for weight, _ in _weights(model):
        nn.init.orthogonal_(weight)
    found: dict[nn.Module, float] = {}

    def measure(module: nn.Module, _: object, outputs: Tensor) -> None:
        found[module] = float(outputs.float().std())

    was_training = model.training
    for layer in _layers(model):
        handle = layer.register_forward_hook(measure)
        for _ in range(rounds):
            model.train()(inputs)
            if layer not in found or not found[layer] > 0 or abs(found[layer] ** 2 - 1) < tolerance:
                break
            assert isinstance(layer.weight, Tensor)
            layer.weight.div_(found[layer])
        handle.remove()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.reset_running_stats()
    model.train(was_training)


@torch.no_grad()
def fixup(model: nn.Module) -> None:
    """Begin residual nets without normalisation: the last layer of each branch and the head 0, the others scaled down.

    Kaiming times L^(-1 / (2 m - 2)), with L residual blocks of m layers each; a convolution of the shortcut (named
    shortcut, downsample, skip or identity) is in no branch. The paper's third rule, scalars in each branch, is left
    out.

    When: residual nets without normalisation (`model.norm = "none"`).
    Source: H. Zhang et al. 2019, Fixup Initialization; the lecture, literature on initialisation.

    Raises:
        UsageError: "has no residual blocks".
    """
    for weight, is_head in _weights(model):
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
        if is_head:
            nn.init.zeros_(weight)
    words = ("block", "bottleneck", "residual")
    named = [m for m in model.modules() if any(word in type(m).__name__.lower() for word in words)]
    blocks = [branch for block in named if len(branch := _branch(block)) >= 2]
    if not blocks:
        raise UsageError(
            f"model.init: fixup: {type(model).__name__} has no residual blocks (classes named ...Block or Bottleneck)",
            "Take kaiming_normal.",
        )
    for *inner, last in blocks:
        for layer in inner:
            assert isinstance(layer.weight, Tensor)
            layer.weight.mul_(len(blocks) ** (-1 / (2 * (len(inner) + 1) - 2)))
        assert isinstance(last.weight, Tensor)
        last.weight.zero_()


@torch.no_grad()
def prior_head(model: nn.Module, targets: Tensor) -> None:
    """Set the head's biases to the logarithm of the classes' shares, its weights to 0: the loss starts at the entropy.

    Of a single output it is the log odds of class 1. Targets below 0 or beyond the outputs have no class.

    When: classes of very different size; else the first epoch is spent on learning the shares.
    Source: A. Karpathy 2019, A Recipe for Training Neural Networks: init well; T. Lin et al. 2017, section 4.1.

    Raises:
        UsageError: "has no bias", "the targets are real numbers".
    """
    if targets.is_floating_point():
        text = f"model.init: prior_head is of classes, the targets are real numbers of shape {tuple(targets.shape)}"
        raise UsageError(text, "Take zeros_head.")
    for layer in reversed(_layers(model)):
        if isinstance(layer, nn.Linear):
            if layer.bias is None:
                raise UsageError("model.init: prior_head: the head has no bias", "Take zeros_head.")
            classes = max(2, layer.out_features)
            counts = torch.bincount(targets[(targets >= 0) & (targets < classes)], minlength=classes).double()
            log_shares = (counts.clamp(min=0.5) / counts.sum()).log()
            nn.init.zeros_(layer.weight)
            layer.bias.copy_(log_shares if layer.out_features > 1 else log_shares[1:] - log_shares[:1])
            return


def zeros_head(model: nn.Module) -> None:
    """Set the head alone to zero, so that the loss starts at its value at uniform outputs exactly."""
    for layer in reversed(_layers(model)):
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            return


def _branch(block: nn.Module) -> list[nn.Module]:
    """Return the layers of a residual block, but for those of its shortcut."""
    beside = ("shortcut", "downsample", "skip", "identity")
    named = block.named_modules()
    return [m for name, m in named if isinstance(m, LAYERS) and not any(word in name.lower() for word in beside)]


def _layers(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, LAYERS)]


def _weights(model: nn.Module) -> Iterator[tuple[Tensor, bool]]:
    """Zero the biases, and give each layer's weight and whether it is the head."""
    layers = _layers(model)
    for layer in layers:
        if isinstance(layer.bias, Tensor):
            nn.init.zeros_(layer.bias)
        is_head = layer is layers[-1] and isinstance(layer, nn.Linear)
        assert isinstance(layer.weight, Tensor)
        yield layer.weight, is_head
