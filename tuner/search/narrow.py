"""From coarse to fine: shrink the space around the best, grow it where the best lies at a border, and say why.

Every key is treated in the scale that it was sampled in (the logarithm of a rate). The good trials are the best quarter
(at least three), so that keys which only work together stay together: the new range always holds all of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tuner.core.space import Choices, Dimension, Range, Space, tidy

GOOD_SHARE = 0.25
AT_BORDER = 0.05  # of the range's width, in the sampled scale
GROW_BY = 0.25  # of the range's width, beyond the border
MARGIN = 0.1  # of the range's width, around the good trials
LEAST_WIDTH = 0.25  # of the range's width: fewer trials than that say nothing about a narrower one
NATURAL = {  # what a key can be at all, whatever the search finds
    "dropout": (0.0, 0.9),
    "momentum": (0.0, 0.999),
    "label_smoothing": (0.0, 0.5),
    "weight_decay": (0.0, math.inf),
    "lr": (0.0, math.inf),
}


@dataclass(frozen=True)
class Scored:
    """A configuration and how good it was; larger is better."""

    params: Mapping[str, Any]
    score: float


def good_ones(scored: Sequence[Scored]) -> list[Scored]:
    """Return the best quarter, at least three, best first; equals keep their order."""
    count = max(3, math.ceil(GOOD_SHARE * len(scored)))
    return sorted(scored, key=lambda trial: -trial.score)[:count]


def narrow(space: Space, scored: Sequence[Scored], limits: Mapping[str, tuple[float, float]] | None = None) -> Space:
    """Return the space for the next search, with the reason per key.

    `limits`: (low, high) per key beyond which it must not grow, e.g. the rate that diverged.
    """
    good = good_ones(scored)
    if not good:
        return space
    return Space(tuple(_narrowed(dimension, good, (limits or {}).get(dimension.key)) for dimension in space.dimensions))


def border(dimension: Dimension, value: Any) -> str | None:
    """Say at which end of a range a value lies, `low` or `high`; None inside, and for choices."""
    domain = dimension.domain
    if not isinstance(domain, Range) or not isinstance(value, (int, float)):
        return None
    low, high, at = (domain.scaled(item) for item in (domain.low, domain.high, max(value, domain.low)))
    near = AT_BORDER * (high - low)
    if high == low:
        return None
    return "low" if at <= low + near else "high" if at >= high - near else None


def at_borders(space: Space, params: Mapping[str, Any]) -> dict[str, str]:
    """Return {key: end} of the keys whose value lies at an end that could be moved."""
    found = {}
    for dimension in space.dimensions:
        if dimension.key not in params:
            continue
        end = border(dimension, params[dimension.key])
        if end is not None and not _at_natural_end(dimension, end):
            found[dimension.key] = end
    return found


def _at_natural_end(dimension: Dimension, end: str) -> bool:
    assert isinstance(dimension.domain, Range)
    low, high = _natural(dimension)
    return dimension.domain.low <= low if end == "low" else dimension.domain.high >= high


def _natural(dimension: Dimension) -> tuple[float, float]:
    assert isinstance(dimension.domain, Range)
    low, high = NATURAL.get(dimension.key.rpartition(".")[2], (-math.inf, math.inf))
    if dimension.domain.integer and dimension.domain.low >= 1:
        low = max(low, 1)
    elif dimension.domain.low >= 0:
        low = max(low, 0.0)
    return low, high


def _narrowed(dimension: Dimension, good: Sequence[Scored], limit: tuple[float, float] | None) -> Dimension:
    values = [trial.params[dimension.key] for trial in good if dimension.key in trial.params]
    if not values:
        return replace(dimension, reason="kept: no good trial had it")
    if isinstance(dimension.domain, Choices):
        return _narrowed_choices(dimension, dimension.domain, values)
    if isinstance(dimension.domain, Range):
        return _narrowed_range(dimension, dimension.domain, [float(value) for value in values], limit)
    return dimension


def _narrowed_choices(dimension: Dimension, domain: Choices, values: Sequence[Any]) -> Dimension:
    kept = tuple(option for option in domain.options if option in values)
    if len(kept) in (0, len(domain.options)):
        return replace(dimension, reason=f"kept: all choices are among the best {len(values)}")
    gone = [option for option in domain.options if option not in kept]
    reason = f"among the best {len(values)} trials; dropped: {', '.join(str(option) for option in gone)}"
    return replace(dimension, domain=Choices(kept), reason=reason)


def _narrowed_range(
    dimension: Dimension, domain: Range, values: Sequence[float], limit: tuple[float, float] | None
) -> Dimension:
    best = values[0]
    low, high = domain.scaled(domain.low), domain.scaled(domain.high)
    width = high - low
    positive = [value for value in values if value > 0] if domain.log else values
    if width <= 0 or not positive:
        return replace(dimension, reason="kept: a single value")
    scaled = [domain.scaled(value) for value in positive]
    new_low, new_high = min(scaled) - MARGIN * width, max(scaled) + MARGIN * width
    short = LEAST_WIDTH * width - (new_high - new_low)
    if short > 0:
        new_low, new_high = new_low - short / 2, new_high + short / 2
    end = border(dimension, best)
    if end == "high":
        new_high = max(new_high, high + GROW_BY * width)
    elif end == "low":
        new_low = min(new_low, low - GROW_BY * width)
    floor, ceiling = _room(dimension, domain, min(scaled), max(scaled), end, limit)
    new_low, new_high = max(new_low, floor), min(new_high, ceiling)
    result = replace(domain, low=_rounded(domain, new_low, math.floor), high=_rounded(domain, new_high, math.ceil))
    return replace(dimension, domain=result, reason=_reason(domain, result, best, end, len(values)))


def _room(
    dimension: Dimension, domain: Range, least: float, most: float, end: str | None, limit: tuple[float, float] | None
) -> tuple[float, float]:
    """Return how far a range may reach, in the sampled scale: the old border unless the best lies there.

    A good value beyond the old border (the recipe's own) is always inside.
    """
    natural_low, natural_high = _natural(dimension)
    if limit is not None:
        natural_low, natural_high = max(natural_low, limit[0]), min(natural_high, limit[1])
    low, high = domain.scaled(domain.low), domain.scaled(domain.high)
    floor, ceiling = min(low, least), max(high, most)
    if end == "low":
        floor = min(floor, domain.scaled(natural_low)) if not domain.log else _log(natural_low)
    if end == "high":
        ceiling = max(ceiling, _log(natural_high) if domain.log else natural_high)
    return floor, ceiling


def _log(value: float) -> float:
    return -math.inf if value <= 0 else math.log(value) if math.isfinite(value) else math.inf


def _rounded(domain: Range, scaled: float, whole: Any) -> float:
    value = domain.unscaled(scaled)
    if domain.integer:
        return int(whole(round(value, 9)))
    if domain.step is not None:  # stay on the old grid
        return tidy(domain.low + round((value - domain.low) / domain.step) * domain.step)
    return float(f"{value:.3g}")


def _reason(old: Range, new: Range, best: float, end: str | None, count: int) -> str:
    if end == "low" and new.low < old.low:
        return f"grown downwards: the best, {best:.4g}, lies at the lower border {old.low:.4g}"
    if end == "high" and new.high > old.high:
        return f"grown upwards: the best, {best:.4g}, lies at the upper border {old.high:.4g}"
    if end is not None and (new.low, new.high) == (old.low, old.high):
        return f"kept: the best, {best:.4g}, lies at the {end}er border, beyond which it cannot go"
    if (new.low, new.high) == (old.low, old.high):
        return f"kept: the best {count} trials span it"
    return f"shrunk around the best {count} trials; the best has {best:.4g}"
