"""Global pooling: functions that give a module from (N, C, H, W) to (N, C', 1, 1). Adding one is adding a function.

`model.global_pool` puts one in the place of a model's last pooling; a head that is too narrow for it is built anew.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tuner.core.errors import UsageError
from tuner.parts.blocks import head_of
from tuner.parts.layers import GlobalAveragePool


def avg() -> nn.Module:
    """Average each channel over the pixels.

    When: the place to begin: the whole image counts.
    Source: M. Lin et al. 2013, Network in Network.
    """
    return GlobalAveragePool()


def max() -> nn.Module:
    """Take the largest pixel of each channel.

    When: the object is small in the image.
    Source: the notes on competitions, pooling.
    """
    return nn.AdaptiveMaxPool2d(1)


def dual() -> nn.Module:
    """Put the average and the largest pixel beside each other: twice the channels.

    When: as average pooling, where a little more is worth a wider head.
    Source: the notes on competitions, dual pooling.
    """
    return _Dual()


def gem(p: float = 3.0) -> nn.Module:
    """Take the p-th root of the mean of p-th powers, p learnt: 1 is the average, large p the maximum.

    When: retrieval.
    p: 1 to 8, log.
    Source: F. Radenovic et al. 2018, Fine-tuning CNN Image Retrieval; the notes on competitions, GeM.
    """
    if not p >= 1:
        raise UsageError(f"model.global_pool.p: must be at least 1 (got {p!r})")
    return _GeM(p)


class _Dual(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([F.avg_pool2d(x, x.shape[2:]), x.amax((2, 3), keepdim=True)], 1)


class _GeM(nn.Module):
    def __init__(self, p: float, least: float = 1e-6) -> None:
        super().__init__()
        self.p, self.least = nn.Parameter(torch.tensor(float(p))), least

    def forward(self, x: Tensor) -> Tensor:
        powers = x.float().clamp(min=self.least) ** self.p
        return F.avg_pool2d(powers, x.shape[2:]) ** (1 / self.p)


GLOBAL = (GlobalAveragePool, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, _Dual, _GeM)


def set_global_pool(model: nn.Module, pool: nn.Module) -> nn.Module:
    """Put a global pooling in the place of the model's last one; a head that is too narrow for it is built anew.

    Raises:
        UsageError: "has no global pooling".
    """
    found = [name for name, module in model.named_modules() if isinstance(module, GLOBAL)]
    if not found:
        text = f"model.global_pool: {type(model).__name__} has no global pooling to replace"
        raise UsageError(text, "It must be a module: nn.AdaptiveAvgPool2d(1), not a mean inside forward.")
    replace_module(model, found[-1], pool)
    if isinstance(pool, _Dual):
        head = head_of(model)
        if not isinstance(head, nn.Linear):
            raise UsageError("model.global_pool: dual needs a linear head", "Take gem or max.")
        wider = nn.Linear(2 * head.in_features, head.out_features, bias=head.bias is not None)
        replace_module(model, next(name for name, module in model.named_modules() if module is head), wider)
    return model


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` in the place of the model's submodule of that name."""
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)


replace_module.__module__ = set_global_pool.__module__ = "tuner.parts"  # no poolings
