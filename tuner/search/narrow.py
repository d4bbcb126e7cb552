"""From coarse to fine: shrink the space around the best, grow it where the best lies at a border, and say why.

Every key is treated in the scale that it was sampled in (the logarithm of a rate). The good trials are the best quarter
(at least three), so that keys which only work together stay together: the new range always holds all of theirs. Where
two keys move together among the best (a rate with a batch size, a decay with a rate), the good ones lie on a ridge, and
a range cut around a few of them would cut the ridge off: each of the two then holds the values of the best third.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tuner.core.formatting import rate
from tuner.core.statistics import rank_correlation
from tuner.recipe.space import Choices, Dimension, Range, Space, tidy

GOOD_SHARE = 0.25
AT_BORDER = 0.05  # of the range's width, in the sampled scale
GROW_BY = 0.25  # of the range's width, beyond the border
MARGIN = 0.1  # of the range's width, around the good trials
RIDGE_SHARE, RIDGE_LEAST = 1 / 3, 6  # the best trials that a ridge is looked for among; fewer say nothing about one
RIDGE_P = 0.02  # of a rank correlation by chance: 0.88 of 6 trials, 0.72 of 10
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
    return _best(scored, GOOD_SHARE, 3)


def _best(scored: Sequence[Scored], share: float, least: int) -> list[Scored]:
    count = max(least, math.ceil(share * len(scored)))
    return sorted(scored, key=lambda trial: -trial.score)[:count]


def narrow(space: Space, scored: Sequence[Scored], limits: Mapping[str, tuple[float, float]] | None = None) -> Space:
    """Return the space for the next search, with the reason per key.

    `limits`: (low, high) per key beyond which it must not grow, e.g. the rate that diverged.
    """
    good = good_ones(scored)
    if not good:
        return space
    ridge, ties = _best(scored, RIDGE_SHARE, RIDGE_LEAST), tied(space, scored)
    dimensions = []
    for dimension in space.dimensions:
        limit, tie = (limits or {}).get(dimension.key), ties.get(dimension.key)
        new = _narrowed(dimension, good if tie is None else ridge, limit)
        if tie is not None:
            text = f"moves with {tie.other} among the best {len(ridge)} (rank correlation {tie.correlation:+.2f})"
            new = replace(new, reason=f"{new.reason}; {text}: all of them are inside")
        dimensions.append(new)
    return Space(tuple(dimensions))


@dataclass(frozen=True)
class Tie:
    """The key that another one moves with among the best trials, and their rank correlation."""

    other: str
    correlation: float


def tied(space: Space, scored: Sequence[Scored]) -> dict[str, Tie]:
    """Return the keys that clearly move with another one among the best third, each with its closest partner."""
    best = _best(scored, RIDGE_SHARE, RIDGE_LEAST)
    keys = [dimension.key for dimension in space.dimensions]
    found: dict[str, Tie] = {}
    for a, b in itertools.combinations(keys, 2):
        both = [(trial.params[a], trial.params[b]) for trial in best if a in trial.params and b in trial.params]
        if len(both) < RIDGE_LEAST or not all(_is_number(value) for pair in both for value in pair):
            continue
        correlation, p = rank_correlation([x for x, _ in both], [y for _, y in both])
        if p >= RIDGE_P:
            continue
        for key, other in ((a, b), (b, a)):
            if key not in found or abs(correlation) > abs(found[key].correlation):
                found[key] = Tie(other, correlation)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


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
        return f"grown downwards: the best, {rate(best)}, lies at the lower border {rate(old.low)}"
    if end == "high" and new.high > old.high:
        return f"grown upwards: the best, {rate(best)}, lies at the upper border {rate(old.high)}"
    if end is not None and (new.low, new.high) == (old.low, old.high):
        return f"kept: the best, {rate(best)}, lies at the {end}er border, beyond which it cannot go"
    if (new.low, new.high) == (old.low, old.high):
        return f"kept: the best {count} trials span it"
    return f"shrunk around the best {count} trials; the best has {rate(best)}"
