"""Weight initialisations: functions `init(model)` that set the weights of convolutions and linear layers.

Biases become zero. Normalisation layers and everything else keep what the model gave them. Adding one is adding a
function. The last linear layer (the head) is followed by no activation: the kaiming rules take gain 1 for it, and the
square root of 2 elsewhere.
Source: Glorot and Bengio 2010 (xavier); He et al. 2015 (kaiming); Saxe et al. 2014 (orthogonal).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor, nn

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
    """Draw from N(0, std^2), whatever the layer's size: deep nets without normalisation vanish or explode under it."""
    for weight, _ in _weights(model):
        nn.init.normal_(weight, std=std)


def zeros_head(model: nn.Module) -> None:
    """Set the head alone to zero, so that the loss starts at its value at uniform outputs exactly."""
    for layer in reversed(_layers(model)):
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            return


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
