"""Averages of the weights over the course of training, which are evaluated and kept in place of the last ones.

A class is built with its arguments, hears of each update by `after_update`, and gives the weights that evaluation uses
by `weights_for_evaluation`: a state dict, or None for the model's own. Adding one is adding a class.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

State = dict[str, Tensor]


class ema:
    """Average the weights exponentially: after each update, decay of the average and 1 - decay of the weights.

    Buffers such as batch norm's statistics are averaged likewise, so that they fit the averaged weights. While there
    have been few updates the decay is (1 + step) / (10 + step), so that the average does not hang on to the init.

    When: the val curve is noisy at a rate that is otherwise good.
    decay: 0.9 to 0.9999, log of 1 - decay.
    Source: B. Polyak, A. Juditsky 1992; the warm-up is TensorFlow's ExponentialMovingAverage(num_updates).
    """

    def __init__(self, decay: float = 0.999, warmup: bool = True) -> None:
        self.decay, self.warmup = decay, warmup
        self.average: State = {}

    @torch.no_grad()
    def after_update(self, model: nn.Module, step: int) -> None:
        state = _copy_of(model) if not self.average else model.state_dict()
        if not self.average:
            self.average = state
            return
        decay = min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay
        _mix(self.average, state, 1 - decay)

    def weights_for_evaluation(self, model: nn.Module) -> State | None:
        return self.average or None

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.average = dict(state["average"])


class swa:
    """Average the weights at the ends of the epochs after the share `start` of the run, all alike.

    Batch norm's statistics do not fit averaged weights: they are taken again over the train split, shuffled, without
    augmentation, before each evaluation; those of frozen norms stay.

    When: the end of a run at a constant or cyclic rate.
    start: 0.5 to 0.9.
    Source: P. Izmailov et al. 2018, Averaging Weights Leads to Wider Optima.
    """

    def __init__(self, start: float = 0.75) -> None:
        self.start = start
        self.average: State = {}
        self.count = 0

    def weights_for_evaluation(self, model: nn.Module, batches: Iterable[Any], epoch: int, epochs: int) -> State | None:
        if epoch <= self.start * epochs:
            return None
        self.count += 1
        if self.count == 1:
            self.average = _copy_of(model)
        else:
            _mix(self.average, model.state_dict(), 1 / self.count)
        model.load_state_dict(self.average)
        _take_statistics(model, batches)
        return model.state_dict()

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.average, self.count = dict(state["average"]), state["count"]


def _copy_of(model: nn.Module) -> State:
    return {name: item.detach().clone() for name, item in model.state_dict().items()}


@torch.no_grad()
def _take_statistics(model: nn.Module, batches: Iterable[Any]) -> None:
    """Take the running statistics of batch norm again, as the mean over the batches; of norms in train mode alone.

    torch's update_bn does the same to those in eval mode too, whose statistics are the ones that training has used.
    """
    norms = {m: m.momentum for m in model.modules() if isinstance(m, _BatchNorm) and m.training}
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    for inputs, _ in batches:
        model(inputs)
    for norm, momentum in norms.items():
        norm.momentum = momentum


def _mix(average: State, state: State, share: float) -> None:
    """Move `average` by `share` of the way to `state`; whole numbers (batches counted) are taken over."""
    moving = [name for name, item in average.items() if item.is_floating_point()]
    torch._foreach_lerp_([average[name] for name in moving], [state[name].detach() for name in moving], share)
    for name in average.keys() - set(moving):
        average[name].copy_(state[name])
