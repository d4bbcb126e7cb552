"""The search space: which keys of the recipe coarse and fine vary, and over what.

`[search]` maps a dotted key of the recipe to one of

- `"auto"`: for `optimizer.lr` alone, the band that lr-sweep found;
- `{ low, high, log = false, step = ..., int = ... }`: a range; whole numbers when both ends are written as such
  (rates, decays and other shares are never whole unless `int = true`);
- `{ choices = [...] }`;

each with an optional `when = { "key" = value }` (or a list of values): varied only while the other key has that value.
No table, or an empty one, means the rate alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tuner.core.errors import UsageError, did_you_mean
from tuner.core.formatting import shown
from tuner.core.trial import MAY_BE_ABSENT, TABLES, canonical_json
from tuner.recipe.model import Train

RATE = "optimizer.lr"
FIELDS = ("low", "high", "log", "step", "int", "choices", "when")
REAL = ("lr", "weight_decay", "momentum", "dropout", "label_smoothing")  # real even where 0 and 1 are written
MAX_PARTS = 5  # of a dotted key after its table's name
FIXED = {
    "data.source": "it names the data itself",
    "data.split_seed": "scores on different splits cannot be compared",
    "data.test_fraction": "scores on different splits cannot be compared",
    "data.val_fraction": "scores on different splits cannot be compared",
    "train.monitor": "scores must mean the same in every trial",
    "train.monitor_mode": "scores must mean the same in every trial",
    "train.metric": "scores must mean the same in every trial",
    "train.evaluate": "scores must mean the same in every trial",
    "train.precision": "lr-sweep settles it",
    "train.threads_per_trial": "it has no influence on the result",
    "train.devices_per_trial": "every trial has a place with so many devices",
}


@dataclass(frozen=True)
class Auto:
    """The band of lr-sweep, not known yet."""


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included; `log` and `step` exclude each other."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    integer: bool = False

    def scaled(self, value: float) -> float:
        """Return `value` in the sampled scale: its logarithm where `log`."""
        return math.log(value) if self.log else value

    def unscaled(self, value: float) -> float:
        return math.exp(value) if self.log else value

    def values(self) -> list[float] | None:
        """Return all values in order, or None where there are infinitely many."""
        if self.low == self.high:
            return [self.low]
        step = self.step or (1 if self.integer else None)
        if step is None:
            return None
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        return [tidy(self.low + i * step, self.integer) for i in range(count)]


@dataclass(frozen=True)
class Choices:
    """One of several values, in no order; any JSON value."""

    options: tuple[Any, ...]

    def values(self) -> list[Any]:
        return list(self.options)


@dataclass(frozen=True)
class Dimension:
    """One key that varies. `reason` says where its values come from; narrowing writes it."""

    key: str
    domain: Auto | Range | Choices
    when: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        value: dict[str, Any] = {}
        if isinstance(self.domain, Range):
            value |= {"low": self.domain.low, "high": self.domain.high, "log": self.domain.log}
            value |= {"step": self.domain.step} if self.domain.step is not None else {}
            value |= {"int": True} if self.domain.integer else {}
        elif isinstance(self.domain, Choices):
            value["choices"] = list(self.domain.options)
        else:
            value["auto"] = True
        value |= {"when": dict(self.when)} if self.when else {}
        value |= {"reason": self.reason} if self.reason else {}
        return value

    @classmethod
    def from_json(cls, key: str, value: Mapping[str, Any]) -> Dimension:
        domain: Auto | Range | Choices
        if "choices" in value:
            domain = Choices(tuple(value["choices"]))
        elif "low" in value:
            whole = bool(value.get("int", False))
            domain = Range(value["low"], value["high"], bool(value.get("log", False)), value.get("step"), whole)
        else:
            domain = Auto()
        return cls(key, domain, dict(value.get("when", {})), value.get("reason", ""))


@dataclass(frozen=True)
class Space:
    """What varies, in the order of the recipe."""

    dimensions: tuple[Dimension, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dimension.key for dimension in self.dimensions)

    def __getitem__(self, key: str) -> Dimension:
        return next(dimension for dimension in self.dimensions if dimension.key == key)

    def __contains__(self, key: object) -> bool:
        return any(dimension.key == key for dimension in self.dimensions)

    def with_rate(self, low: float, high: float, reason: str) -> Space:
        """Return the space with an `auto` rate replaced by the range low..high, in the logarithm."""
        band = Range(low, high, log=True)
        return Space(
            tuple(replace(d, domain=band, reason=reason) if isinstance(d.domain, Auto) else d for d in self.dimensions)
        )

    def active(self, params: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
        """Return `params` without the keys whose condition is not met.

        `base`: the recipe's own values by dotted key, for conditions on keys that do not vary. A key whose
        condition names a key that is itself inactive is inactive too.
        """
        kept = dict(params)
        while True:
            off = [d.key for d in self.dimensions if d.key in kept and not self._met(d, kept, base)]
            if not off:
                return kept
            for key in off:
                del kept[key]

    def _met(self, dimension: Dimension, params: Mapping[str, Any], base: Mapping[str, Any]) -> bool:
        for key, wanted in dimension.when.items():
            if key in self and key not in params:
                return False
            value = params.get(key, base.get(key))
            if value not in (wanted if isinstance(wanted, list) else [wanted]):
                return False
        return True

    def conditions(self) -> list[str]:
        """Return the keys that conditions ask about."""
        return sorted({key for dimension in self.dimensions for key in dimension.when})

    def size(self) -> int | None:
        """Return the number of points, conditions not counted; None where it is infinite."""
        total = 1
        for dimension in self.dimensions:
            values = None if isinstance(dimension.domain, Auto) else dimension.domain.values()
            if values is None:
                return None
            total *= len(values)
        return total

    def points(self) -> Iterator[dict[str, Any]]:
        """Yield every point of a finite space, conditions not applied."""
        columns = [d.domain.values() or [] for d in self.dimensions if not isinstance(d.domain, Auto)]
        for values in itertools.product(*columns):
            yield dict(zip(self.keys, values, strict=True))

    def to_json(self) -> dict[str, Any]:
        return {dimension.key: dimension.to_json() for dimension in self.dimensions}

    @classmethod
    def from_json(cls, value: Mapping[str, Mapping[str, Any]]) -> Space:
        return cls(tuple(Dimension.from_json(key, item) for key, item in value.items()))


def tidy(value: float, integer: bool = False) -> float:
    """Return `value` as a whole number, or with four significant digits: what a person can read and retype."""
    return round(value) if integer else float(f"{value:.4g}")


def space_of(search: Mapping[str, Any]) -> Space:
    """Return the space of a `[search]` table.

    Raises:
        UsageError: all problems of the table.
    """
    space, problems = parse_space(search)
    if problems:
        raise UsageError("\n".join(f"search.{key}: {text}" for key, text in problems), "Fix the [search] table.")
    return space


def extremes(space: Space) -> Iterator[tuple[str, Any]]:
    """Yield (key, value) for both ends of every range and for every choice: what a search can ask for at most."""
    for dimension in space.dimensions:
        domain = dimension.domain
        values = (
            domain.values()
            if isinstance(domain, Choices)
            else [tidy(domain.low, domain.integer), tidy(domain.high, domain.integer)]
            if isinstance(domain, Range)
            else []
        )
        for value in values:
            yield dimension.key, value


def parse_space(search: Mapping[str, Any]) -> tuple[Space, list[tuple[str, str]]]:
    """Read a `[search]` table; return the space and every problem as (key, what is wrong)."""
    if not search:
        return Space((Dimension(RATE, Auto()),)), []
    problems = _nested_problems(search)
    dimensions = []
    for key, value in search.items():
        wrong = _key_problem(key)
        domain, when, texts = (None, {}, []) if wrong else _parse_value(key, value)
        problems += [(key, text) for text in ([wrong] if wrong else []) + texts]
        if domain is not None and not wrong and not texts:
            dimensions.append(Dimension(key, domain, when))
    space = Space(tuple(dimensions))
    for dimension in dimensions:
        problems += [(dimension.key, text) for text in _when_problems(dimension, space, search)]
    return space, problems


def _key_problem(key: str) -> str | None:
    table, dot, rest = key.partition(".")
    if not dot or not all(rest.split(".")):
        close = did_you_mean(key, _known_keys())
        return f'not a dotted key of the recipe{close}; write it in quotes: "optimizer.lr" = ...'
    if table not in (*TABLES, *MAY_BE_ABSENT):
        close = did_you_mean(key, _known_keys()) or did_you_mean(table, TABLES)
        return f"{shown(table)} is no table that a trial depends on (one of: {', '.join(TABLES)}){close}"
    if table == "train" and rest not in Train.model_fields:
        return f"unknown key{did_you_mean(rest, Train.model_fields)} (known: {', '.join(Train.model_fields)})"
    if key in FIXED:
        return f"cannot be searched: {FIXED[key]}"
    if rest.count(".") >= MAX_PARTS:
        return f"a key of a recipe has {MAX_PARTS + 1} parts at most"
    return None


def _nested_problems(search: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is wrong with keys of which one lies inside another: a value cannot be a table as well."""
    return [
        (key, f"it lies inside {outer}, which is searched as well: search one of the two")
        for key in search
        for outer in search
        if key.startswith(f"{outer}.")
    ]


def _known_keys() -> list[str]:
    usual = ["model.name", "model.width", "model.depth", "model.dropout", "model.init", "data.augment", "loss.name"]
    rates = [RATE, "optimizer.name", "optimizer.weight_decay", "optimizer.momentum", "schedule.name"]
    return usual + rates + ["loss.label_smoothing", "train.batch_size", "train.clip_norm"]


Parsed = tuple[Auto | Range | Choices | None, dict[str, Any], list[str]]


def _parse_value(key: str, value: Any) -> Parsed:
    if value == "auto":
        if key == RATE:
            return Auto(), {}, []
        return (
            None,
            {},
            [f"no range is known of {key} that 'auto' could stand for; give {{ low, high }} or {{ choices }}"],
        )
    if not isinstance(value, Mapping):
        return (
            None,
            {},
            [f"expected {{ low, high }}, {{ choices }}{' or auto' if key == RATE else ''} (got {shown(value)})"],
        )
    texts = [
        f"unknown field {name!r}{did_you_mean(name, FIELDS)} (known: {', '.join(FIELDS)})"
        for name in value
        if name not in FIELDS
    ]
    when = value.get("when", {})
    if not isinstance(when, Mapping) or ("when" in value and not when):
        texts.append(f'when: expected {{ "key" = value }} (got {shown(when)})')
        when = {}
    domain, more = _parse_choices(value) if "choices" in value else _parse_range(key, value)
    return domain, dict(when), texts + more


def _parse_choices(value: Mapping[str, Any]) -> tuple[Choices | None, list[str]]:
    options = value["choices"]
    mixed = [name for name in ("low", "high", "log", "step", "int") if name in value]
    if mixed:
        return None, [f"choices and {mixed[0]} exclude each other"]
    if not isinstance(options, list) or not options:
        return None, [f"choices: expected a list that is not empty (got {shown(options)})"]
    texts = [canonical_json(option) for option in options]
    if len(set(texts)) < len(texts):
        return None, [f"choices: a value is given twice (got {shown(options)})"]
    return Choices(tuple(options)), []


def _parse_range(key: str, value: Mapping[str, Any]) -> tuple[Range | None, list[str]]:
    texts = []
    for name in ("low", "high"):
        if name not in value:
            texts.append(f"{name} is missing")
        elif not _is_number(value[name]):
            texts.append(f"{name}: expected a finite number (got {shown(value[name])})")
    for name in ("log", "int"):
        if not isinstance(value.get(name, False), bool):
            texts.append(f"{name}: expected true or false (got {shown(value[name])})")
    step = value.get("step")
    if step is not None and (not _is_number(step) or step <= 0):
        texts.append(f"step: expected a number greater than 0 (got {shown(step)})")
    if texts:
        return None, texts
    low, high, log = value["low"], value["high"], value.get("log", False)
    written_whole = all(isinstance(item, int) for item in (low, high) + ((step,) if step is not None else ()))
    whole = value.get("int", written_whole and key.rpartition(".")[2] not in REAL)
    if low >= high:
        texts.append(f"low must be less than high (got low = {shown(low)}, high = {shown(high)})")
    if log and low <= 0:
        texts.append(f"a log range must begin above 0 (got low = {shown(low)})")
    if log and step is not None:
        texts.append("log and step exclude each other")
    if whole and not written_whole:
        texts.append(f"int = true needs whole numbers (got low = {shown(low)}, high = {shown(high)})")
    if texts:
        return None, texts
    return Range(low if whole else float(low), high if whole else float(high), log, step, whole), []


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _when_problems(dimension: Dimension, space: Space, search: Mapping[str, Any]) -> list[str]:
    texts = []
    for key, wanted in dimension.when.items():
        wanted = wanted if isinstance(wanted, list) else [wanted]
        if key not in search and (wrong := _key_problem(key)) and key not in FIXED:
            texts.append(f"when: {key}: {wrong}")
        elif key in space and isinstance(domain := space[key].domain, Choices):
            options = domain.values()
            texts += [
                f"when: {key} is never {shown(item)} (choices: {shown(options)})"
                for item in wanted
                if item not in options
            ]
    if _depends_on_itself(dimension.key, search):
        texts.append("when: the condition leads back to the key itself")
    return texts


def _depends_on_itself(key: str, search: Mapping[str, Any]) -> bool:
    seen: set[str] = set()
    queue = [key]
    while queue:
        value = search.get(queue.pop())
        for other in value.get("when", {}) if isinstance(value, Mapping) else ():
            if other == key:
                return True
            if other not in seen:
                seen.add(other)
                queue.append(other)
    return False
