"""The parts that any model is read as: its head, and its blocks in the order of depth."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from tuner.core.errors import UsageError

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
Block = tuple[nn.Module, ...]


def head_of(model: nn.Module) -> nn.Module:
    """Return the head: what the recipe put there (`set_head`), else the last linear layer, or the last 1x1 convolution
    where there is none.

    Raises:
        UsageError: "has no linear layer".
    """
    layers = list(model.modules())
    if put := [layer for layer in layers if is_put_head(layer)]:
        return put[-1]
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    pointwise = [layer for layer in layers if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)]
    if not linear and not pointwise:
        raise UsageError(
            f"model.name: {type(model).__name__} has no linear layer to take as its head",
            "Leave out what asks for the head, or end the model with a linear layer.",
        )
    return (linear or pointwise)[-1]


def is_put_head(module: nn.Module) -> bool:
    """Return whether a module is the head that the recipe put into its model, which may be of several layers."""
    return bool(getattr(module, "is_head", False))


def blocks_of(model: nn.Module) -> list[Block]:
    """Return the model's blocks, first to last, each of one or more modules with weights.

    A block is a child of the model; a Sequential or ModuleList is opened, and so is a model of a single child. A
    normalisation layer belongs to the block before it. ResNet-18 gives conv1 with its norm, eight residual blocks and
    the head.
    """
    blocks: list[Block] = []
    for module in _units(model):
        if isinstance(module, NORMS) and blocks:
            blocks[-1] = (*blocks[-1], module)
        else:
            blocks.append((module,))
    return blocks


def _units(module: nn.Module) -> Iterator[nn.Module]:
    children = [child for child in module.children() if any(True for _ in child.parameters())]
    if not children:
        yield module
    for child in children:
        if not is_put_head(child) and (isinstance(child, (nn.Sequential, nn.ModuleList)) or len(children) == 1):
            yield from _units(child)
        else:
            yield child
