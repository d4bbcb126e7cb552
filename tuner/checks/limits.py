"""Limits: the numbers that rules compare with, each with a name, a unit and a source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

_heard: list[tuple[Limit, float]] | None = None


class Limit(float):
    """A number that evidence is compared with. It is a float, and knows its name, its unit and its source.

    `source`: a paper, a derivation, or "zoo: ..." where it was chosen on the developed-on part of the zoo. Every
    comparison with it can be heard (`comparisons`), which is how the zoo finds its margin; so compare with the limit
    itself, and not with a multiple of it.
    """

    name: str
    unit: str
    source: str

    def __new__(cls, name: str, value: float, unit: str, source: str) -> Self:
        limit = super().__new__(cls, value)
        limit.name, limit.unit, limit.source = name, unit, source
        return limit

    def __str__(self) -> str:
        return f"{float(self):g}"

    def __format__(self, spec: str) -> str:
        return format(float(self), spec or "g")

    def _hear(self, other: Any) -> float:
        if _heard is not None and isinstance(other, (int, float)):
            _heard.append((self, float(other)))
        return float(self)

    def __lt__(self, other: Any) -> Any:
        return self._hear(other) < other

    def __le__(self, other: Any) -> Any:
        return self._hear(other) <= other

    def __gt__(self, other: Any) -> Any:
        return self._hear(other) > other

    def __ge__(self, other: Any) -> Any:
        return self._hear(other) >= other

    __hash__ = float.__hash__


@contextmanager
def comparisons() -> Iterator[list[tuple[Limit, float]]]:
    """Write down what is compared with any limit while the block runs: (limit, the value that was held against it)."""
    global _heard
    before, _heard = _heard, []
    try:
        yield _heard
    finally:
        _heard = before


SURE = Limit("sure", 6.0, "standard errors", "derived: a normal variable is as far off once in 1e9 comparisons")
SAME = Limit(
    "same", 1e-3, "of the outputs' spread", "derived: what kernels for another batch differ by in fp32 is 1e-6"
)
