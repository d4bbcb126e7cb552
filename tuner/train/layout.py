"""How images lie in memory: channels last where the user's model does not notice, plainly where it would fail."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

LIBRARIES = ("tuner", "torch", "torchvision", "timm")  # their models take either layout
VIEWED = "view size is not compatible"  # what torch raises at x.view(len(x), -1) of a channels-last convolution


def fails_channels_last(model: nn.Module, inputs: Tensor) -> bool:
    """Return whether the model fails on channels-last images, though it works on plain ones.

    A forward of two images in eval mode, without gradients, in each layout. Anything else that it raises is left to
    whoever calls the model next.
    """
    model.eval()
    try:
        _forward(model.to(memory_format=torch.channels_last), inputs.contiguous(memory_format=torch.channels_last))
    except RuntimeError as error:
        if VIEWED not in str(error):
            return False
    except Exception:
        return False
    else:
        return False
    try:
        _forward(model.to(memory_format=torch.contiguous_format), inputs.contiguous())
    except Exception:
        return False
    return True


def _forward(model: nn.Module, inputs: Tensor) -> None:
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        model(inputs)


def plain(model: nn.Module) -> nn.Module:
    """Return the model in the plain layout; whatever images it is given are brought to that first."""

    def bring(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(item.contiguous() if isinstance(item, Tensor) else item for item in given)

    model.to(memory_format=torch.contiguous_format).register_forward_pre_hook(bring)
    return model
