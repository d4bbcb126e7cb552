"""The recipe: one TOML file that says what to tune. Read, checked, and every problem reported at once."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tuner.core.trial import TABLES, apply_overrides
from tuner.errors import UsageError, did_you_mean

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Component(BaseModel):
    """A table that names a component; its other keys are the component's arguments (`args` where a name collides)."""

    model_config = ConfigDict(frozen=True, extra="allow")
    args: dict[str, Any] = Field(default_factory=dict)


class Data(_Component):
    """Where the examples come from, how they are split, normalised and augmented."""

    source: str
    test_fraction: float | None = Field(default=None, gt=0, lt=1)
    val_fraction: float = Field(default=0.2, gt=0, lt=1)
    split_seed: int = 0
    normalize: str | dict[str, list[float]] | None = None
    augment: list[str | dict[str, Any]] = Field(default_factory=list)
    num_classes: int | None = Field(default=None, ge=2)
    cache: bool | None = None

    @field_validator("normalize")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if isinstance(value, str) and value not in NORMALIZE:
            raise ValueError(f"unknown normalisation (one of: {', '.join(NORMALIZE)}){did_you_mean(value, NORMALIZE)}")
        if isinstance(value, dict):
            if set(value) != {"mean", "std"}:
                raise ValueError("a normalisation table holds exactly mean and std")
            if len(value["mean"]) != len(value["std"]):
                raise ValueError("mean and std must be equally long")
            if not all(item > 0 for item in value["std"]):
                raise ValueError("every std must be greater than 0")
        return value

    @field_validator("augment")
    @classmethod
    def _named(cls, value: list[Any]) -> list[Any]:
        for item in value:
            if isinstance(item, dict) and not isinstance(item.get("name"), str):
                raise ValueError(f"an augmentation table needs a name, got {item!r}")
        return value


NORMALIZE = ("none", "scale", "channel_mean", "standardize", "mean_image", "imagenet")


class Model(_Component):
    """The network."""

    name: str
    init: str | None = None


class Loss(_Component):
    """What is minimised."""

    name: str = "cross_entropy"


class Optimizer(_Component):
    """How the weights are updated."""

    name: str = "sgd"
    lr: float = Field(default=0.01, gt=0)
    weight_decay: float | None = Field(default=None, ge=0)


class Schedule(_Component):
    """How the learning rate moves; stepped after every update unless `every = "epoch"`."""

    name: str = "constant"
    every: Literal["step", "epoch"] = "step"


class Train(_Table):
    """The loop: batch size, precision, what is maximised, the user's own hooks."""

    batch_size: int = Field(default=128, ge=1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    threads_per_trial: int = Field(default=1, ge=1)
    monitor: str = "val_accuracy"
    monitor_mode: Literal["max", "min"] = "max"
    step: str | None = None
    evaluate: str | None = None
    metric: str | None = None
    clip_norm: float | None = Field(default=None, gt=0)


class Accept(_Table):
    """Findings that the user knows and means."""

    codes: list[str] = Field(default_factory=list)
    reason: str = ""

    @model_validator(mode="after")
    def _reason(self) -> Accept:
        if self.codes and not self.reason.strip():
            raise ValueError("accepted codes need a reason")
        return self


class Recipe(_Table):
    """A complete, runnable experiment."""

    name: str = Field(pattern=NAME_PATTERN)
    seed: int = Field(default=0, ge=0)
    data: Data
    model: Model
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    train: Train = Train()
    search: dict[str, Any] = Field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = Field(default_factory=dict)
    accept: Accept = Accept()

    def tables(self) -> dict[str, Any]:
        """Return the six tables that a trial depends on, as plain JSON values with defaults filled in."""
        return self.model_dump(include=set(TABLES))

    def value(self, dotted: str) -> Any:
        """Return the value at a dotted key, or None where the recipe has none."""
        node: Any = self.model_dump()
        for part in dotted.split("."):
            if not isinstance(node, Mapping) or part not in node:
                return None
            node = node[part]
        return node


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; a syntax error becomes a UsageError that names file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"{path}: no such recipe", "Give the path of a .toml file, or `tuner new` to write one."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot read the recipe ({error})", "Give the path of a TOML text file.") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        place = f"{path}:{line.group(1)}" if line else f"{path}"
        raise UsageError(f"{place}: not valid TOML: {error}", "Strings need quotes; tables are [name].") from None


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split `optimizer.lr=1e-3` into a dotted key and a TOML value; a bare word is taken as a string."""
    key, equals, raw = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UsageError(f"--set {text}: expected key=value (got {text!r})", "Example: --set optimizer.lr=1e-3")
    try:
        return key, tomllib.loads(f"value = {raw.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        if re.fullmatch(r"[A-Za-z_][\w.:/-]*", raw.strip()):
            return key, raw.strip()
        raise UsageError(
            f"--set {text}: {raw.strip()!r} is not a TOML value",
            "Strings with spaces need quotes: --set name='\"a b\"'",
        ) from None


SettingsModels = Mapping[str, type[BaseModel]]


def load_recipe(
    path: Path, overrides: Sequence[str] = (), seed: int | None = None, *, settings: SettingsModels
) -> Recipe:
    """Read, override (`key=value` texts) and check a recipe; `settings`: {stage: model of its `[stages]` table}.

    Raises:
        UsageError: every problem at once, as `file:line: key: what is wrong (got ...)`.
    """
    raw = read_toml(path)
    changes = dict(parse_assignment(text) for text in overrides)
    if seed is not None:
        changes["seed"] = seed
    search = {key: changes.pop(key) for key in list(changes) if key.startswith("search.")}
    try:
        raw = apply_overrides(raw, changes)
    except (AttributeError, TypeError):
        raise UsageError(
            f"--set {', '.join(changes)}: a key leads through a value that is no table", "Check the dots."
        ) from None
    for key, value in search.items():
        raw.setdefault("search", {})[key.removeprefix("search.").strip('"')] = value
    return _check_recipe(raw, path, set(changes), settings)


def _check_recipe(raw: Mapping[str, Any], path: Path, from_flags: set[str], settings: SettingsModels) -> Recipe:
    lines = key_lines(path)
    problems: list[str] = []
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        problems += [_problem(item, path, lines, from_flags) for item in error.errors()]
    problems += _unset_variables(raw.get("data"), path, lines)
    problems += _check_stages(raw.get("stages", {}), path, lines, settings)
    problems += _check_search(raw.get("search", {}), path, lines)
    if recipe is not None and not problems:
        return recipe
    raise UsageError("\n".join(problems), "Mend the recipe, or override a key with --set key=value.")


def key_lines(path: Path) -> dict[str, int]:
    """Return the line (from 1) of every key and table of a TOML file, by dotted name."""
    lines: dict[str, int] = {}
    table = ""
    if not path.exists():
        return lines
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if header := re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line):
            table = header.group(1).replace('"', "")
            lines.setdefault(table, number)
        elif entry := re.match(r"""\s*((?:"[^"]*"|'[^']*'|[\w-]+)(?:\s*\.\s*(?:"[^"]*"|[\w-]+))*)\s*=""", line):
            key = entry.group(1).replace('"', "").replace("'", "").replace(" ", "")
            lines.setdefault(f"{table}.{key}" if table else key, number)
    return lines


def place_of(dotted: str, path: Path, lines: Mapping[str, int]) -> str:
    """Return `file:line` of a key, of its nearest table, or the file alone."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        if (line := lines.get(".".join(parts[:end]))) is not None:
            return f"{path}:{line}"
    return str(path)


def _problem(item: Any, path: Path, lines: Mapping[str, int], from_flags: set[str]) -> str:
    location = [str(part) for part in item["loc"] if part not in ("str", "dict[str,list[float]]")]
    dotted = ".".join(location)
    place = "--set" if dotted in from_flags else place_of(dotted, path, lines)
    if item["type"] == "extra_forbidden":
        known = _fields_at(location[:-1])
        return f"{place}: {dotted}: unknown key{did_you_mean(location[-1], known)} (known: {', '.join(known)})"
    if item["type"] == "missing":
        what = "table" if dotted in TABLES else "key"
        return f"{place}: {dotted}: this {what} is missing"
    text = item["msg"].removeprefix("Value error, ")
    return f"{place}: {dotted}: {text[0].lower()}{text[1:]} (got {item['input']!r})"


def _fields_at(location: Sequence[str]) -> list[str]:
    model: Any = Recipe
    for part in location:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


PATH_KEYS = ("root", "path", "file", "folder", "dir")  # keys of the data table whose text is a path


def paths_expanded(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the data table with its paths made absolute; `folder` is the recipe's."""
    return {
        key: expand_path(value, folder) if key in PATH_KEYS and isinstance(value, str) else value
        for key, value in data.items()
    }


def expand_path(value: str, folder: Path) -> str:
    """Expand `~` and `$VAR` in a path; a relative one starts from the recipe's folder.

    Raises:
        UsageError: an environment variable is not set.
    """
    expanded = os.path.expandvars(os.path.expanduser(value))
    if unset := re.search(r"\$\{?(\w+)", expanded):
        raise UsageError(
            f"the environment variable {unset.group(1)} is not set (got {value!r})",
            f"export {unset.group(1)}=..., or write the path itself.",
        )
    return os.path.normpath(folder / expanded)


def _unset_variables(data: Any, path: Path, lines: Mapping[str, int]) -> list[str]:
    problems = []
    for key, value in data.items() if isinstance(data, Mapping) else ():
        if key in PATH_KEYS and isinstance(value, str):
            try:
                expand_path(value, path.parent)
            except UsageError as error:
                problems.append(f"{place_of(f'data.{key}', path, lines)}: data.{key}: {error.message}")
    return problems


def _check_stages(stages: Any, path: Path, lines: Mapping[str, int], settings: SettingsModels) -> list[str]:
    if not isinstance(stages, Mapping):
        return []
    problems = []
    for name, values in stages.items():
        place = place_of(f"stages.{name}", path, lines)
        if name not in settings:
            problems.append(f"{place}: stages.{name}: unknown stage{did_you_mean(name, settings)}")
            continue
        try:
            settings[name].model_validate(values)
        except ValidationError as error:
            problems += [_stage_problem(name, item, settings[name], path, lines) for item in error.errors()]
    return problems


def _stage_problem(name: str, item: Any, model: type[BaseModel], path: Path, lines: Mapping[str, int]) -> str:
    key = ".".join(["stages", name, *(str(part) for part in item["loc"])])
    place = place_of(key, path, lines)
    if item["type"] == "extra_forbidden":
        known = list(model.model_fields)
        return f"{place}: {key}: unknown key{did_you_mean(str(item['loc'][-1]), known)} (known: {', '.join(known)})"
    return f"{place}: {key}: {item['msg'].removeprefix('Value error, ')} (got {item['input']!r})"


def _check_search(search: Any, path: Path, lines: Mapping[str, int]) -> list[str]:
    from tuner.core.space import parse_space

    if not isinstance(search, Mapping):
        return []
    _, problems = parse_space(search)
    return [f"{place_of(f'search.{key}', path, lines)}: search.{key}: {text}" for key, text in problems]
