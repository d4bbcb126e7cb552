"""Global pooling: functions that give a module from (N, C, H, W) to (N, C', 1, 1). Adding one is adding a function.

`model.global_pool` puts one in the place of a model's last pooling; a head that is too narrow for it is built again.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from tuner.core.errors import UsageError
from tuner.parts.layers import DualPool, GeMPool, GlobalAveragePool, StripePool, pieces


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
    return DualPool()


def gem(p: float = 3.0) -> nn.Module:
    """Take the p-th root of the mean of p-th powers, p learnt: 1 is the average, large p the maximum.

    When: retrieval.
    p: 1 to 8, log.
    Source: F. Radenovic et al. 2018, Fine-tuning CNN Image Retrieval; the notes on competitions, GeM.
    """
    if not p >= 1:
        raise UsageError(f"model.global_pool.p: must be at least 1 (got {p!r})")
    return GeMPool(p)


def stripes(parts: int = 3) -> nn.Module:
    """Average each channel over each of `parts` horizontal stripes: that many times the channels, stripe by stripe.

    When: with `model.head = "pcb"`.
    parts: 2 to 6.
    Source: Y. Sun et al. 2018, Beyond Part Models (PCB).
    """
    return StripePool(pieces("model.global_pool", [parts]), largest=False)


def granularities(granularities: Sequence[int] = (1, 2, 3)) -> nn.Module:
    """Take the largest pixel of each channel over the whole image, its halves, its thirds, ... one after the other.

    When: with `model.head = "mgn"` of the same granularities.
    Source: G. Wang et al. 2018, Multiple Granularity Network (MGN).
    """
    return StripePool(pieces("model.global_pool", granularities), largest=True)
