"""Library models (torchvision, timm): their heads fitted to the classes, their inputs checked against the data."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from tuner.core.errors import UsageError


def fit_head(model: nn.Module, num_classes: int) -> nn.Module:
    """Replace the last linear layer (or 1x1 convolution) by a fresh one with `num_classes` outputs, in place.

    Raises:
        UsageError: "has no linear layer to fit".
    """
    heads = [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1))
    ]
    if not heads:
        raise UsageError(
            f"model.name: {type(model).__name__} has no linear layer to fit to {num_classes} classes",
            "Write a function build(input_shape, num_classes) that fits it.",
        )
    name, old = heads[-1]
    has_bias = old.bias is not None
    new: nn.Module
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, num_classes, bias=has_bias)
    else:
        assert isinstance(old, nn.Conv2d)
        new = nn.Conv2d(old.in_channels, num_classes, 1, bias=has_bias)
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, new)
    return model


def check_input(model: nn.Module, input_shape: Sequence[int], name: str) -> None:
    """Check that the first layer takes the data's channels or features.

    Raises:
        UsageError: "takes ... channels, the data has ...", "takes images".
    """
    first = next((layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))), None)
    if not isinstance(first, nn.Conv2d):
        return
    if len(input_shape) != 3:
        raise UsageError(
            f"model.name: {name} takes images; one example of the data has shape {tuple(input_shape)}",
            'Use model.name = "mlp" for tables.',
        )
    if first.in_channels != input_shape[0]:
        raise UsageError(
            f"model.name: {name} takes {first.in_channels} channels, the data has {input_shape[0]}",
            f"timm's models take in_chans = {input_shape[0]}; a torchvision model is wrapped in a build(input_shape, "
            f"num_classes) of yours that repeats the channels or replaces its first layer; the built-in models "
            "(convnet, resnet20) fit themselves to the data.",
        )
