"""Evidence: what a measurement found, as a frozen dataclass in plain Python that goes to JSON and comes back."""

from __future__ import annotations

import functools
import importlib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from typing import Any, Self

from tuner.core.result import finite


@dataclass(frozen=True)
class Evidence:
    """Base of what measurements find. Its measurement is the folder that it stands in."""

    @classmethod
    def measurement(cls) -> str:
        """Return the name of the measurement, `one_step` for tuner.checks.one_step.evidence."""
        return cls.__module__.split(".")[2]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values; NaN and infinities become None."""
        return finite(asdict(self))

    def only(self, *names: str) -> dict[str, Any]:
        """Return some of the fields as JSON values: what a finding shows."""
        whole = self.to_json()
        return {name: whole[name] for name in names}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave. Keys that are not known are left out, those of older versions among them.

        Raises:
            KeyError: a field that has no default is not there.
        """
        return _dataclass_from(cls, value)


@dataclass(frozen=True)
class NotMeasured:
    """Why a measurement found nothing. `raised`: it failed with an error, where it was thought to apply."""

    why: str
    raised: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"skipped": self.why, **({"raised": True} if self.raised else {})}


def read(name: str, value: Any) -> Evidence | NotMeasured:
    """Return the evidence of the measurement `name` from its JSON, that of another version of tuner too."""
    if isinstance(value, (Evidence, NotMeasured)):
        return value
    if not value:
        return NotMeasured(f"the measurement {name.replace('_', ' ')} was not made")
    if "skipped" in value:
        return NotMeasured(value["skipped"], bool(value.get("raised")))
    try:
        return evidence_class(name).from_json(value)
    except KeyError as missing:
        return NotMeasured(f"measured by another version of tuner, without {missing.args[0]!r}")


def read_all(values: Mapping[str, Any]) -> dict[str, Evidence | NotMeasured]:
    """Return the evidence of several measurements by name; names that no measurement has (any more) are left out."""
    return {name: read(name, value) for name, value in values.items() if _is_known(name)}


@functools.cache
def _is_known(name: str) -> bool:
    from tuner.checks import folders

    return name in folders()


@functools.cache
def evidence_class(name: str) -> type[Evidence]:
    """Return the class of a measurement's evidence: the folder's name in CamelCase."""
    module = importlib.import_module(f"tuner.checks.{name}.evidence")
    return getattr(module, "".join(part.capitalize() for part in name.split("_")))  # type: ignore[no-any-return]


def _dataclass_from(cls: type[Any], value: Mapping[str, Any]) -> Any:
    given = {}
    for name, kind, required in _fields(cls):  # type: ignore[arg-type]
        if name in value:
            given[name] = _from(kind, value[name])
        elif required:
            raise KeyError(name)
    return cls(**given)


@functools.cache
def _fields(cls: Any) -> tuple[tuple[str, Any, bool], ...]:
    hints = typing.get_type_hints(cls)
    return tuple(
        (item.name, hints[item.name], item.default is MISSING and item.default_factory is MISSING)
        for item in fields(cls)
    )


def _from(kind: Any, value: Any) -> Any:
    """Return a JSON value as the type of a field, where that holds dataclasses."""
    if value is None or not _holds_dataclass(kind):
        return value
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _from(next(part for part in arguments if part is not types.NoneType), value)
    if is_dataclass(kind):
        return _dataclass_from(typing.cast("type[Any]", kind), value)
    if isinstance(value, Mapping):
        return {key: _from(arguments[-1], item) for key, item in value.items()}
    return [_from(arguments[0], item) for item in typing.cast("Sequence[Any]", value)]


@functools.cache
def _holds_dataclass(kind: Any) -> bool:
    return is_dataclass(kind) or any(_holds_dataclass(part) for part in typing.get_args(kind))
