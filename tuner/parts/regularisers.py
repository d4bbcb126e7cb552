"""Regularisers within a model: functions `regulariser(model, p, **args)` that change it in place and give it back.

`model.drop_connect = 0.3` or a table `{ p = ..., ... }`. They act in train mode alone, and add no weights. Adding one
is adding a function. Dropout is an argument of the built-in models and of the linear head.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from tuner.core.errors import UsageError
from tuner.parts.blocks import head_of


def drop_connect(model: nn.Module, p: float) -> nn.Module:
    """Drop each weight of the linear layers before the head with probability `p` in each pass, and scale the rest.

    When: wide fully connected layers.
    p: 0.1 to 0.7.
    Source: L. Wan et al. 2013; the lecture, regularisation: DropConnect.
    """
    _share("drop_connect", p)
    head = set(head_of(model).modules())
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m not in head]
    layers = layers or [m for m in model.modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise UsageError("model.drop_connect: the model has no linear layer", "Take drop_block or dropout.")
    for layer in layers:
        layer.__class__ = _DropConnect
        layer.drop_prob = float(p)  # type: ignore[assignment]
    return model


def stochastic_depth(model: nn.Module, p: float) -> nn.Module:
    """Skip the branch of each residual block for each example with a probability that grows with depth, up to `p`.

    When: deep residual nets. In the built-in residual nets.
    p: 0.05 to 0.5.
    Source: G. Huang et al. 2016; the lecture, regularisation: stochastic depth.
    """
    from torchvision.ops import StochasticDepth

    _share("stochastic_depth", p)
    blocks = [module for module in model.modules() if hasattr(module, "branch_drop")]
    if not blocks:
        text = f"model.stochastic_depth: {type(model).__name__} has no residual blocks that can be skipped"
        raise UsageError(text, "Take a built-in residual net (resnet8, resnet20).")
    for index, block in enumerate(blocks, 1):
        block.branch_drop = StochasticDepth(p * index / len(blocks), "row")  # type: ignore[assignment]
    return model


def drop_block(model: nn.Module, p: float, size: int = 3) -> nn.Module:
    """Blank squares of `size` pixels of the feature maps, so that a share `p` is blank, after each batch norm.

    When: nets of convolutions, where dropping single pixels does little.
    p: 0.02 to 0.3. size: 3 to 7.
    Source: G. Ghiasi et al. 2018, DropBlock.
    """
    from torchvision.ops import DropBlock2d

    _share("drop_block", p)
    if not isinstance(size, int) or size < 1 or size % 2 == 0:
        raise UsageError(f"model.drop_block.size: must be an odd integer of at least 1 (got {size!r})")
    names = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    if not names:
        raise UsageError("model.drop_block: the model has no batch norm of images to put it behind", "Take dropout.")
    for name in names:
        norm = model.get_submodule(name)
        norm.drop = DropBlock2d(float(p), size)  # a part of the model, so that what switches dropout off finds it
        norm.register_forward_hook(_blanked)
    return model


def _blanked(module: nn.Module, inputs: object, outputs: Tensor) -> Tensor:
    drop = module.drop
    assert isinstance(drop, nn.Module) and isinstance(drop.block_size, int)
    fits = min(outputs.shape[2:]) >= drop.block_size
    return drop(outputs) if module.training and fits else outputs


class _DropConnect(nn.Linear):
    drop_prob = 0.0

    def forward(self, x: Tensor) -> Tensor:
        weight = F.dropout(self.weight, self.drop_prob, self.training)
        return F.linear(x, weight, self.bias)


def _share(name: str, p: float) -> None:
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p < 1:
        raise UsageError(f"model.{name}: must be at least 0 and less than 1 (got {p!r})")
