"""How far back in time a recurrent layer of the fresh model hears, and whether that reaches what the input says."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tuner.checks.recurrent_memory.evidence import RecurrentMemory
from tuner.checks.tools.cost import affordable
from tuner.checks.tools.frame import CannotProbe, before_training, fresh_model, one_batch, random_state
from tuner.train.own_loss import told
from tuner.train.setup import Setup

HEARD = 1e-3  # of the largest gradient at a step
EXAMPLES = 32


@before_training
def recurrent_memory(setup: Setup) -> RecurrentMemory:
    """Follow the gradient of the loss back to the input of every recurrent layer (RNN, LSTM, GRU), step by step."""
    model, loss = fresh_model(setup), setup.loss()
    names = {module: name for name, module in model.named_modules() if isinstance(module, nn.RNNBase)}
    if not names:
        return RecurrentMemory(layers=[])
    inputs, targets = one_batch(setup, affordable(setup, EXAMPLES, trained=True), "recurrent_memory")
    taken: dict[nn.RNNBase, Tensor] = {}

    def take(module: Any, given: tuple[Any, ...]) -> Any:
        if module in taken or not isinstance(given[0], Tensor) or given[0].ndim != 3:
            return None
        taken[module] = given[0].detach().requires_grad_()
        return (taken[module], *given[1:])

    handles = [module.register_forward_pre_hook(take) for module in names]
    try:
        with random_state(0), told(targets):
            loss(model(inputs), targets).backward()
    finally:
        for handle in handles:
            handle.remove()
    layers = [
        {"name": names[module] or "model", "type": type(module).__name__, **measured}
        for module, read in taken.items()
        if (measured := _measured(read, bool(module.batch_first))) is not None
    ]
    if not layers:
        raise CannotProbe("no recurrent layer is given a plain tensor that the loss depends on")
    return RecurrentMemory.from_json({"layers": layers})


def _measured(read: Tensor, batch_first: bool) -> dict[str, Any] | None:
    """Return what the gradient (batch, time, features) at a layer's input says."""
    if read.grad is None or not bool(read.grad.isfinite().all()) or not bool((read.grad != 0).any()):
        return None
    values, gradient = (item.detach() if batch_first else item.detach().transpose(0, 1) for item in (read, read.grad))
    sizes = gradient.double().norm(dim=2)
    mean = sizes.mean(0)
    moving = (values != values[:, -1:]).any(2)  # what comes before a tail of equal steps
    steps = torch.arange(values.shape[1], device=values.device)
    ends = torch.where(moving.any(1), (moving * (steps + 1)).amax(1), 0)
    tails = values.shape[1] - ends
    padded = (tails > 1) & (ends > 0)
    reaches = None
    if int(padded.sum()) >= len(values) / 2:
        before = torch.where(steps < ends[:, None], sizes, 0.0).amax(1)
        reaches = float((before[padded] / sizes[padded].amax(1).clamp_min(1e-300)).median())
    return {
        "steps": values.shape[1],
        "heard": int((mean >= HEARD * mean.max()).sum()),
        "reaches": reaches,
        "tail": int(tails.max()),
    }
