"""Frozen dataclasses from JSON: types are checked, unknown keys are ignored, missing ones take their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


@cache
def _adapter(of: Any) -> TypeAdapter[Any]:
    return TypeAdapter(of)


def from_json(of: type[T], value: Any) -> T:
    """Return the dataclass `of` with the fields of a JSON object, nested dataclasses included.

    Raises:
        ValueError: a field is of another type; the message names it and what was found.
    """
    try:
        return cast(T, _adapter(cast(Any, of)).validate_python(value))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or of.__name__
        raise ValueError(f"{where}: {first['msg']} (got {str(first['input'])[:60]!r})") from None


def to_json(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, nested ones included."""
    return {key: _plain(item) for key, item in asdict(value).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
