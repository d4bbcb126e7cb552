"""The recipe: what to tune, as a value. `tuner.recipe.file` reads one from its file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_serializer, model_validator

from tuner.core.errors import UsageError, did_you_mean
from tuner.core.formatting import shown
from tuner.core.trial import trial_tables
from tuner.recipe.more_tables import KEYS_OF_WAYS, After, Finetune, Teacher

QUIET = {"quiet": True}
FINETUNE_LR = 1e-4  # the notes on hyperparameters: 1e-4 or less on weights that have converged already
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


def _quiet(table: BaseModel, values: dict[str, Any]) -> dict[str, Any]:
    """Leave out the keys that are marked `quiet` and have their default: they change no trial's id."""
    fields = type(table).model_fields
    quiet = [name for name, info in fields.items() if info.json_schema_extra == QUIET]
    same = [name for name in quiet if getattr(table, name) == fields[name].default]
    return {key: value for key, value in values.items() if key not in same}


def off(default: Any = None, **limits: Any) -> Any:
    """Declare a key that is off unless it is written, and then leaves no trace in a trial's id."""
    return Field(default=default, json_schema_extra=dict(QUIET), **limits)


Part = str | dict[str, Any]  # the name of a component, or a table with its name and its arguments
Parts = Part | list[Part] | None


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: Any) -> dict[str, Any]:
        return _quiet(self, handler(self))


class _Component(BaseModel):
    """A table that names a component; its other keys are the component's arguments (`args` where a name collides)."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)
    args: dict[str, Any] = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def _without_defaults(self, handler: Any) -> dict[str, Any]:
        return _quiet(self, handler(self))


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
    loader_workers: int = Field(default=0, ge=0)
    resize: int | list[int] | None = off()
    sampler: Part = off("shuffle")
    task: Literal["classification", "multilabel", "regression", "embedding"] | None = off()
    collate: str | None = off()

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

    @field_validator("resize")
    @classmethod
    def _sides(cls, value: Any) -> Any:
        sides = [] if value is None else [value, value] if isinstance(value, int) else value
        if value is not None and (len(sides) != 2 or min(sides) < 1):
            raise ValueError("must be a number of pixels, or a height and a width")
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
    init: Part | None = None
    output: str | None = off()


class Loss(_Component):
    """What is minimised; `[[loss]]`, a list of tables, is their sum, each times its `factor`."""

    name: str = "cross_entropy"
    terms: list[dict[str, Any]] = off(None)

    @model_validator(mode="before")
    @classmethod
    def _sum(cls, value: Any) -> Any:
        return {"name": "weighted_sum", "terms": value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _terms(self) -> Loss:
        if self.terms is not None and not self.terms:
            raise ValueError("a list of losses needs one at least")
        return self


class Optimizer(_Component):
    """How the weights are updated.

    weight_decay: 1e-6 to 1e-2, log.
    """

    name: str = "sgd"
    lr: float = Field(default=0.01, gt=0)
    weight_decay: float | None = Field(default=None, ge=0)
    groups: Parts = off()


class Schedule(_Component):
    """How the learning rate moves; stepped after every update unless `every = "epoch"`."""

    name: str = "constant"
    every: Literal["step", "epoch"] = "step"


class Train(_Table):
    """The loop: batch size, precision, what is maximised, the user's own hooks, what is added to the step.

    batch_size: 16 to 256, log. clip_norm: 0.1 to 10, log. accumulate: 1 to 8, log. l1: 1e-7 to 1e-3, log.
    max_norm: 1 to 8, log. ema: 0.9 to 0.9999. swa: 0.5 to 0.9. patience: 3 to 20.
    """

    batch_size: int = Field(default=128, ge=1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    threads_per_trial: int = Field(default=1, ge=1)
    devices_per_trial: int = off(1, ge=1)
    sync_batch_norm: bool = off(False)
    monitor: str = "val_accuracy"
    monitor_mode: Literal["max", "min"] = "max"
    step: str | None = None
    evaluate: str | None = None
    metric: str | None = None
    clip_norm: float | None = Field(default=None, gt=0)
    accumulate: int = off(1, ge=1)
    l1: float | None = off(gt=0)
    max_norm: float | None = off(gt=0)
    ema: float | None = off(gt=0, lt=1)
    swa: float | None = off(ge=0, lt=1)
    snapshots: int | None = off(ge=2)
    patience: int | None = off(ge=1)
    penalty: Parts = off()
    after_update: Parts = off()
    weights_for_evaluation: Parts = off()


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

    name: str = Field(pattern=NAME_PATTERN, max_length=100)  # it names a folder
    seed: int = Field(default=0, ge=0, lt=2**32)
    data: Data
    model: Model
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    train: Train = Train()
    search: dict[str, Any] = Field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = Field(default_factory=dict)
    accept: Accept = Accept()
    finetune: Finetune | None = off()
    teacher: Teacher | None = off()
    after: After | None = off()

    @model_validator(mode="after")
    def _snapshots(self) -> Recipe:
        if self.after is not None and self.after.ensemble == "snapshots" and self.train.snapshots is None:
            raise ValueError("after.ensemble: snapshots are kept by train.snapshots = 3, which is not set")
        return self

    @model_validator(mode="after")
    def _of_this_way(self) -> Recipe:
        """Refuse keys of fine-tuning that its way does not read; where the way is searched, one of them may."""
        if self.finetune is None or "finetune.way" in self.search:
            return self
        for key, ways in KEYS_OF_WAYS.items():
            is_set = getattr(self.finetune, key) != Finetune.model_fields[key].default
            if is_set and self.finetune.way not in ways:
                read_by = " or ".join(map(repr, ways))
                raise ValueError(f"finetune.{key}: is of way = {read_by}, not of {self.finetune.way!r}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _careful(cls, value: Any) -> Any:
        """Give weights that are trained on a rate of 1e-4 where the recipe says none."""
        if not isinstance(value, dict) or value.get("finetune") is None:
            return value
        optimizer = value.get("optimizer", {})
        return value if "lr" in optimizer else {**value, "optimizer": {**optimizer, "lr": FINETUNE_LR}}

    def tables(self) -> dict[str, Any]:
        """Return the tables that a trial depends on, as plain JSON values with defaults filled in."""
        return trial_tables(self.model_dump())

    def value(self, dotted: str) -> Any:
        """Return the value at a dotted key, or None where the recipe has none."""
        node: Any = self.model_dump()
        for part in dotted.split("."):
            if not isinstance(node, Mapping) or part not in node:
                return None
            node = node[part]
        return node


MAX_PATH_CHARACTERS = 4000  # Linux: 4096 bytes; Windows: 32,767 characters
MAX_NAME_BYTES = 255  # of one part of a path: what ext4, APFS and NTFS hold
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
        UsageError: an environment variable is not set; the path is longer than any disk takes.
    """
    expanded = os.path.expandvars(os.path.expanduser(value))
    if unset := re.search(r"\$\{?(\w+)", expanded):
        raise UsageError(
            f"the environment variable {unset.group(1)} is not set (got {value!r})",
            f"export {unset.group(1)}=..., or write the path itself.",
        )
    if len(expanded) > MAX_PATH_CHARACTERS or any(len(part.encode()) > MAX_NAME_BYTES for part in Path(expanded).parts):
        raise UsageError(f"no disk has a path of this length (got {shown(value)})", "Look for what was put there.")
    return os.path.normpath(folder / expanded)
