"""Evidence of the measurement recurrent_memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tuner.checks.evidence import Evidence


@dataclass(frozen=True)
class Memory:
    """One layer (RNN, LSTM, GRU) over a sequence of `steps`: the gradient of the loss at its input, step by step.

    `heard`: at how many steps it is at least a thousandth of its largest; `reaches`: before an example's constant
    `tail` (padding, the longest), the largest over that of all steps, in the median (None: no such tails).
    """

    name: str
    type: str
    steps: int
    heard: int
    reaches: float | None = None
    tail: int = 0


@dataclass(frozen=True)
class RecurrentMemory(Evidence):
    """How far back in time every recurrent layer of the fresh model hears."""

    layers: Sequence[Memory]
