"""Evidence: what a measurement found, as a frozen dataclass in plain Python that goes to JSON and comes back."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from tuner.core.result import finite
from tuner.core.values import from_json


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
            ValueError: a field is missing, or of another type.
        """
        return from_json(cls, value)


class CannotProbe(Exception):
    """Raised by a measurement that cannot be made of this model, loss or optimizer; its text is the reason."""

    applies = True


@dataclass(frozen=True)
class NotMeasured:
    """Why a measurement found nothing. `raised`: by an error. `applies`: such a model and such data have it at all."""

    why: str
    raised: bool = False
    applies: bool = True

    def to_json(self) -> dict[str, Any]:
        return {
            "skipped": self.why,
            **({"raised": True} if self.raised else {}),
            **({} if self.applies else {"applies": False}),
        }


def read(name: str, value: Any) -> Evidence | NotMeasured:
    """Return the evidence of the measurement `name` from its JSON, that of another version of tuner too."""
    if isinstance(value, (Evidence, NotMeasured)):
        return value
    if not value:
        return NotMeasured(f"the measurement {name.replace('_', ' ')} was not made")
    if "skipped" in value:
        return NotMeasured(value["skipped"], bool(value.get("raised")), bool(value.get("applies", True)))
    try:
        return evidence_class(name).from_json(value)
    except ValueError as error:
        return NotMeasured(f"what was measured cannot be read, another version of tuner wrote it: {error}")


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
