"""Floating-point operations of a model, as torch counts them, and of the kernels that torch does not count."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

Shape = torch.Size


def counter() -> FlopCounterMode:
    """Return a mode that counts the floating-point operations of what runs within it; a multiply-add counts as two."""
    return FlopCounterMode(display=False, custom_mapping=dict(UNCOUNTED))


def _layer(inputs: Shape, weight: Shape, recurrent: Shape, *_: Any, out_shape: Any = None) -> int:
    """Count one direction of a recurrent layer on a CPU: both weight matrices are applied at every step."""
    return _applied(inputs, [weight, recurrent])


def _layers(inputs: Shape, weights: list[Shape], *_: Any, out_shape: Any = None) -> int:
    """Count all layers of a recurrent module on a GPU, packed sequences (steps of all, features) included."""
    return _applied(inputs, weights)


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, out_shape: Any = None, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _applied(inputs: Shape, weights: list[Shape]) -> int:
    return 2 * math.prod(inputs[:-1]) * sum(math.prod(shape) for shape in weights if len(shape) == 2)


UNCOUNTED: dict[Any, Callable[..., int]] = {
    torch.ops.aten.mkldnn_rnn_layer: _layer,
    torch.ops.aten._cudnn_rnn: _layers,
    torch.ops.aten.miopen_rnn: _layers,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
}
