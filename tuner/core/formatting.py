"""Numbers as a person writes them: the one form of headlines, tables and plots."""

from __future__ import annotations

from collections.abc import Sequence

PLAIN = (1e-3, 1e4)  # from here on, and below there, decimals read better than powers of ten
PLAIN_TICK = 1e-4


def scientific(value: float, digits: int = 2) -> str:
    """Format as `3.2e-4`, with as few characters as that takes."""
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{int(exponent)}"


def rate(value: float) -> str:
    """Format a learning rate, or another quantity that lives on a log scale: `0.1`, `0.003`, `3.162e-4`, `1`.

    Four digits: all that a searched value has (`core.space.tidy`), so that what is read can be typed again.
    """
    return _plain(value) if value == 0 or PLAIN[0] <= abs(value) < PLAIN[1] else scientific(value, 3)


def rates(values: Sequence[float]) -> list[str]:
    """Format the ticks of one axis in one form: decimals, or powers of ten where a tick is too small for them."""
    if all(PLAIN_TICK <= value < PLAIN[1] for value in values):
        return [_plain(value) for value in values]
    return [_plain(value) if 1 <= value < 100 else scientific(value) for value in values]


def plural(count: int, noun: str) -> str:
    """Return `1 trial`, `2 trials`, `1,200 trials`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def value_text(value: object) -> str:
    """Format a value of a recipe: a float as a rate, anything else as it is."""
    return rate(value) if isinstance(value, float) else str(value)


def shown(value: object, limit: int = 80) -> str:
    """Return `repr(value)`, shortened to `limit` characters, for a message that says what was found."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or a value nested without end
        return f"a {type(value).__name__}"
    return clipped(text, limit)


def clipped(text: str, limit: int) -> str:
    """Return `text`, with its middle left out where it has more than `limit` characters."""
    if len(text) <= limit:
        return text
    end = limit // 4
    return f"{text[: limit - end - 5]} ... {text[-end:]}"


def _plain(value: float) -> str:
    return f"{value:.4g}"
