"""The `choice` of a stage's result.json, as far as later stages read it: checked when it is read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from tuner.core.values import from_json

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
BAND = ("lr_low", "lr_high")


@dataclass(frozen=True)
class _Dimension:
    """A key of a narrowed space: choices, a range, or what lr-sweep finds."""

    auto: bool = False
    choices: Annotated[list[Any], Field(min_length=1)] | None = None
    low: Finite | None = None
    high: Finite | None = None
    step: Positive | None = None
    log: bool = False
    int: bool = False
    when: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.auto and self.choices is None and self.low is None and self.high is None:
            raise ValueError("neither a range nor choices")
        if (self.low is None) != (self.high is None):
            raise ValueError("a range has a low and a high")
        if self.low is not None and self.high is not None and not self.low <= self.high:
            raise ValueError(f"low = {self.low!r} is above high = {self.high!r}")
        if self.log and self.low is not None and self.low <= 0:
            raise ValueError(f"low = {self.low!r} has no logarithm")


@dataclass(frozen=True)
class _Configuration:
    params: Mapping[str, Any]
    trial: str | None = None


@dataclass(frozen=True)
class _Choice:
    """Every key that some stage writes and another reads."""

    lr: Positive | None = None
    lr_low: Positive | None = None
    lr_high: Positive | None = None
    precision: str = "fp32"
    top: tuple[_Configuration, ...] | None = None
    space: Mapping[str, _Dimension] | None = None
    params: Mapping[str, Any] | None = None
    trial: str | None = None
    checkpoint: str | None = None
    epochs: Annotated[int, Field(gt=0)] | None = None


def checked(choice: Any) -> dict[str, Any]:
    """Return a stage's choice as it is.

    Raises:
        ValueError: a key that later stages read is not what a stage writes, or is missing beside its others.
    """
    from_json(_Choice, choice)
    lacking = [name for name in BAND if choice.get(name) is None]
    if len(lacking) == 1:
        raise ValueError(f"{lacking[0]} is not there, the band's other end is")
    return dict(choice)
