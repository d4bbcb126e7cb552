"""Leaving the user's objects as they were found: weights, modes, gradients, optimizer state, random generators."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn


@contextmanager
def preserved(model: nn.Module, optimizer: torch.optim.Optimizer | None, loss: Any, *loaders: Any) -> Iterator[None]:
    """Run the block, and put everything back bit for bit, also where it raises."""
    modules = [item for item in (model, loss) if isinstance(item, nn.Module)]
    kept = [_module_state(item) for item in modules]
    own = copy.deepcopy(optimizer.state_dict()) if optimizer is not None else None
    draws = _generators(loaders)
    states = [generator.get_state() for generator in draws]
    streams = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    threads, kind, grad = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    try:
        yield
    finally:
        for item, state in zip(modules, kept, strict=True):
            _restore_module(item, state)
        if optimizer is not None and own is not None:
            optimizer.load_state_dict(own)
        for generator, drawn in zip(draws, states, strict=True):
            generator.set_state(drawn)
        random.setstate(streams[0])
        np.random.set_state(streams[1])
        torch.set_rng_state(streams[2])
        if devices:
            torch.cuda.set_rng_state_all(devices)
        torch.set_num_threads(threads)
        torch.set_default_dtype(kind)
        torch.set_grad_enabled(grad)


def _module_state(model: nn.Module) -> dict[str, Any]:
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    return {
        "values": [(tensor, tensor.detach().clone()) for tensor in tensors.values()],
        "modes": [(module, module.training) for module in model.modules()],
        "gradients": [
            (p, p.grad, None if p.grad is None else p.grad.detach().clone(), p.requires_grad)
            for p in model.parameters()
        ],
    }


def _restore_module(model: nn.Module, state: dict[str, Any]) -> None:
    with torch.no_grad():
        for tensor, value in state["values"]:
            if not torch.equal(tensor, value):
                tensor.copy_(value)
        for parameter, gradient, value, trained in state["gradients"]:
            if gradient is not None:
                gradient.copy_(value)
            parameter.grad = gradient
            parameter.requires_grad_(trained)
    for module, training in state["modes"]:
        module.training = training


def _generators(loaders: tuple[Any, ...]) -> list[torch.Generator]:
    """Return the generators that loaders and their samplers hold."""
    holders = [part for loader in loaders for part in (loader, getattr(loader, "sampler", None))]
    found = [getattr(holder, "generator", None) for holder in holders]
    unique = {id(generator): generator for generator in found if isinstance(generator, torch.Generator)}
    return list(unique.values())
