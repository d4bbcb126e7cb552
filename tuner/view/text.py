"""Numbers and small phrases as a reader wants them: rounded to what matters, `-` for what is not there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tuner.core import formatting


def is_number(value: Any) -> bool:
    """Return whether `value` is a finite number (a bool is not)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def spans_decades(values: Iterable[Any], factor: float = 20) -> bool:
    """Return whether positive numbers spread so far that a log axis reads better."""
    kept = [value for value in values if is_number(value)]
    return bool(kept) and min(kept) > 0 and max(kept) > factor * min(kept)


def as_float(value: Any) -> float | None:
    """Return a finite float, or None for whatever is not one; text such as `0.1` counts."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def fixed(value: Any, places: int = 3) -> str:
    """Format with a fixed number of decimals; what would round to zero is shown as a power of ten."""
    if not is_number(value):
        return "-"
    if value != 0 and abs(value) < 0.5 * 10**-places:
        return formatting.scientific(value, 1)
    if abs(value) >= 1e5:
        return formatting.scientific(value, 2)
    return f"{value:.{places}f}"


def rounded(value: Any, places: int = 3) -> str:
    """Format with a fixed number of decimals where what rounds to zero is as good as zero: a share, a mean."""
    return f"{round(value, places) + 0.0:.{places}f}" if is_number(value) else "-"  # + 0.0: not -0.000


def rate(value: Any) -> str:
    """Format a learning rate or another quantity that lives on a log scale, `-` for none."""
    return formatting.rate(value) if is_number(value) else "-"


def number(value: Any, digits: int = 4) -> str:
    """Format any value briefly: floats to `digits` significant digits, integers with separators from 10,000."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            return "-"
        if value.is_integer() and abs(value) < 1e6:
            return number(int(value))
        return f"{value:.{digits}g}" if 1e-3 <= abs(value) < 1e5 else formatting.scientific(value)
    return str(value)


def words_of(score: str | None) -> str:
    """Return a score's name as words: `balanced accuracy` of balanced_accuracy; without one, `accuracy`."""
    return (score or "accuracy").replace("_", " ")


def with_unit(words: str, nats: bool = False) -> str:
    """Return the label of an axis: accuracies are fractions, a loss is in nats where `nats` says so."""
    unit = "fraction" if words.endswith("accuracy") else "nats" if nats and "loss" in words else ""
    return f"{words} [{unit}]" if unit else words


def plus_minus(mean: float | None, std: float | None, places: int = 3) -> str:
    """Format `mean +- std`; without a spread the mean alone."""
    if not is_number(mean) or not is_number(std):
        return fixed(mean, places)
    return f"{fixed(mean, places)} +- {fixed(std, places)}"


def interval(value: Any, places: int = 3) -> str:
    """Format `[low, high]` as `0.962 to 0.984`."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        return "-"
    return f"{rounded(value[0], places)} to {rounded(value[1], places)}"


def duration(seconds: float | None) -> str:
    """Format seconds: `0.4s` (a whole number of them: `4s`), `34s`, `1m20s`, `2h05m`."""
    if seconds is None or not is_number(seconds):
        return "-"
    if 0 < seconds < 9.95 and isinstance(seconds, float):
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def value_text(value: Any) -> str:
    """Format a value of the recipe or of a finding's evidence on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {value_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(value_text(item) for item in value) + "]"
    return number(value)


def setting_text(value: Any) -> str:
    """Format a value as a recipe would spell it, so that rates are rates (`5e-4`) and text is plain."""
    return rate(value) if isinstance(value, float) and 0 < value < 1 else value_text(value)


def short_keys(keys: Iterable[str]) -> dict[str, str]:
    """Map dotted keys to their last part (`optimizer.name` to `optimizer`), except where two would read the same."""
    keys = list(keys)
    short = [key.removesuffix(".name").rsplit(".", 1)[-1] for key in keys]
    return {key: key if short.count(part) > 1 else part for key, part in zip(keys, short, strict=True)}


def params_text(params: Any) -> str:
    """Format a trial's overrides: `lr 0.02, weight_decay 1e-4`; `as the recipe` when there are none."""
    if not isinstance(params, Mapping) or not params:
        return "as the recipe"
    names = short_keys(params)
    return ", ".join(f"{names[key]} {setting_text(value)}" for key, value in params.items())
