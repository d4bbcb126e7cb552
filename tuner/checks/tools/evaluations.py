"""Evaluation of the fresh model: is it repeatable, and is each example judged by itself?"""

from __future__ import annotations

from torch import Tensor


def _differs(a: Tensor, b: Tensor) -> float:
    """Return the largest difference over the spread of the outputs."""
    return float((a - b).abs().max() / a.std().clamp_min(1e-6))
