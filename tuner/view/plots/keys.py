"""A searched key as an axis: its values as places, in the logarithm or one per choice, and how the axis is labelled."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuner.core.formatting import rates
from tuner.core.result import StageResult
from tuner.view.artifacts import Row, is_log
from tuner.view.importance import entries
from tuner.view.plots import style
from tuner.view.plots.style import Axes
from tuner.view.text import as_float, number

VALUES_NAMED = 5  # values of a key up to which the axis names each of them
PAD = 0.04  # of the axis, on either side


@dataclass(frozen=True)
class KeyAxis:
    """The place of each trial on the key's axis (None: the trial does not have the key)."""

    key: str
    places: tuple[float | None, ...]
    options: tuple[str, ...] = ()
    log: bool = False

    @property
    def known(self) -> list[float]:
        """The different places, in order."""
        return sorted({place for place in self.places if place is not None})

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of the axis, with some room around the outermost values."""
        if self.options:
            return -0.5, len(self.options) - 0.5
        low, high = self.known[0], self.known[-1]
        if self.log:
            room = PAD * math.log(high / low)
            return low / math.exp(room), high * math.exp(room)
        room = (0.25 if self.names_each else PAD) * (high - low) or 0.5
        return low - room, high + room

    @property
    def names_each(self) -> bool:
        """Whether each value gets a tick: few, and not so close that their labels run into each other."""
        known = self.known
        span = known[-1] - known[0] if known else 0.0
        apart = all(right - left >= 0.15 * span for left, right in itertools.pairwise(known))
        return not self.options and not self.log and len(known) <= VALUES_NAMED and apart

    def share(self, place: float) -> float:
        """Return where a place lies between the ends of the axis, from 0 to 1."""
        low, high = self.ends
        if self.log:
            return math.log(place / low) / math.log(high / low)
        return (place - low) / (high - low)

    def labels(self) -> list[tuple[float, str]]:
        """Return a few places with their labels: every choice, every value of few, else the ends and the middle."""
        if self.options:
            return [(float(place), option[:16]) for place, option in enumerate(self.options)]
        if self.names_each:
            return [(place, number(place)) for place in self.known]
        low, high = self.known[0], self.known[-1]
        middle = math.sqrt(low * high) if self.log else (low + high) / 2
        places = (low, middle, high)
        texts = rates([float(f"{at:.2g}") for at in places]) if self.log else [number(at, 3) for at in places]
        return list(zip(places, texts, strict=True))


def key_axis(key: str, trials: Sequence[Row], linear: bool = False) -> KeyAxis:
    """Make the axis of a key from the rows of trials.csv; `linear`: never in the logarithm."""
    values = [row.get(key) for row in trials]
    places = [as_float(value) for value in values]
    if any(place is None and value is not None for place, value in zip(places, values, strict=True)):
        options = sorted({str(value) for value in values if value is not None})
        return KeyAxis(key, tuple(None if v is None else float(options.index(str(v))) for v in values), tuple(options))
    known = sorted({place for place in places if place is not None})
    return KeyAxis(key, tuple(places), log=not linear and is_log(key, known))


def dress(ax: Axes, axis: KeyAxis, which: str = "x") -> None:
    """Set scale, limits and ticks of the x or y axis."""
    target = ax.xaxis if which == "x" else ax.yaxis
    limits = ax.set_xlim if which == "x" else ax.set_ylim
    if axis.log:
        (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    limits(*axis.ends)
    if axis.log:
        style.log_axis(target)
    elif axis.options or axis.names_each:
        labels = axis.labels()
        target.set_ticks([place for place, _ in labels], [style.safe(text) for _, text in labels])


def by_importance(result: StageResult[Any], keys: Sequence[str]) -> list[str]:
    """Return keys in the order of their importance, those that chance explains last; without one, as they are."""
    order = [entry.key for entry in entries(result)]
    return sorted(keys, key=lambda key: order.index(key) if key in order else len(order))
