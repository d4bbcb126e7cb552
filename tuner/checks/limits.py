"""Limits: the numbers that rules compare with, each with a name, a unit and a source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

_heard: list[tuple[Limit, float]] | None = None


class _Compared(float):
    """A limit, or a number that is made of one: `back` takes what is held against it to what the limit is held against.

    Where a rule asks `x > LIMIT * y`, what is heard of it is x / y.
    """

    limit: Limit
    back: Callable[[float], float]

    def _made(self, value: float, back: Callable[[float], float]) -> _Compared:
        made = _Compared(value)
        own = self.back
        made.limit, made.back = self.limit, lambda held: own(back(held))
        return made

    def _hear(self, other: Any) -> Any:
        """Return what is held against this as a plain number, and write it down; another limit is none."""
        if isinstance(other, _Compared):
            return float(other)
        if _heard is not None and isinstance(other, (int, float)):
            with suppress(ZeroDivisionError):  # of a multiple that is 0: any value is beyond, or none
                _heard.append((self.limit, self.back(float(other))))
        return other

    def __lt__(self, other: Any) -> Any:
        return float(self) < self._hear(other)

    def __le__(self, other: Any) -> Any:
        return float(self) <= self._hear(other)

    def __gt__(self, other: Any) -> Any:
        return float(self) > self._hear(other)

    def __ge__(self, other: Any) -> Any:
        return float(self) >= self._hear(other)

    def __mul__(self, other: float) -> Any:
        return self._made(float(self) * other, lambda held: held / other)

    def __add__(self, other: float) -> Any:
        return self._made(float(self) + other, lambda held: held - other)

    def __sub__(self, other: float) -> Any:
        return self._made(float(self) - other, lambda held: held + other)

    def __rsub__(self, other: float) -> Any:
        return self._made(other - float(self), lambda held: other - held)

    def __neg__(self) -> Any:
        return self._made(-float(self), lambda held: -held)

    __rmul__, __radd__ = __mul__, __add__
    __hash__ = float.__hash__


class Limit(_Compared):
    """A number that evidence is compared with. It is a float, and knows its name, its unit and its source.

    `source`: a paper, a derivation, or "zoo: ..." where it was chosen on the developed-on part of the zoo. Every
    comparison with it, or with a multiple of it, can be heard (`comparisons`), which is how the zoo finds its margin.
    """

    name: str
    unit: str
    source: str

    def __new__(cls, name: str, value: float, unit: str, source: str) -> Self:
        limit = super().__new__(cls, value)
        limit.name, limit.unit, limit.source = name, unit, source
        limit.limit, limit.back = limit, float
        return limit

    def __str__(self) -> str:
        return f"{float(self):g}"

    def __format__(self, spec: str) -> str:
        return format(float(self), spec or "g")


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
