"""What a trial is: a frozen value from which one function makes a result."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from tuner.core.memory import Room

TABLES = ("data", "model", "loss", "optimizer", "schedule", "train")
MAY_BE_ABSENT = ("finetune", "teacher", "after")  # tables that leave no trace in a trial where the recipe has none


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """Return the sha256 (hex) of a JSON value."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def apply_overrides(tables: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of nested `tables` with dotted keys replaced: {"optimizer.lr": 0.1}."""
    result = copy.deepcopy(dict(tables))
    for dotted, value in overrides.items():
        *path, last = dotted.split(".")
        table = result
        for part in path:
            table = table.setdefault(part, {})
        table[last] = copy.deepcopy(value)
    return result


def trial_tables(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of `tables` that a trial depends on: the six, and of the others those that are there."""
    return {name: tables[name] for name in (*TABLES, *MAY_BE_ABSENT) if name in TABLES or tables.get(name) is not None}


@dataclass(frozen=True)
class TrialSpec:
    """Everything that a trial's outcome depends on, and nothing else.

    `tables` are the recipe's data, model, loss, optimizer, schedule and train tables with `overrides` already
    applied, so that a base value which a trial replaces does not enter its id. Exactly one of `horizon_epochs`
    and `horizon_steps` is set for a trial that trains; both are None for one that only measures.
    `give_up`: of a horizon in steps, {steps, last, drop}: after so many steps the trial ends as "stopped" where the
    mean loss of the last ones lies by less than `drop` below the first.
    `train_subset`: whether a fixed subset of train is evaluated after each epoch, as val is.
    `measure` maps the name of a measurement in `tuner.checks` to its arguments; measures run after training.
    """

    tables: Mapping[str, Any]
    overrides: Mapping[str, Any]
    seed: int
    horizon_epochs: int | None = None
    horizon_steps: int | None = None
    measure: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    user_files: Mapping[str, str] = field(default_factory=dict)
    data_hash: str = ""
    device: str = "cpu"
    precision: str = "fp32"
    train_subset: bool = True
    give_up: Mapping[str, float] | None = None

    @cached_property  # a stage of many trials asks for it again and again
    def id(self) -> str:
        """Return the first 12 hex digits of the hash of this value.

        Fields at their default are left out, so that a new field changes no id.
        """
        return digest(self._set())[:12]

    def _set(self) -> dict[str, Any]:
        """Return the fields that are not at their default."""
        values = asdict(self)
        for known in fields(self):
            default = known.default_factory() if known.default_factory is not MISSING else known.default
            if default is not MISSING and values[known.name] == default:
                del values[known.name]
        return values

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TrialSpec:
        return cls(**value)


@dataclass(frozen=True)
class WorkItem:
    """One piece of work: train `spec` up to `until_epoch` (None: to its horizon).

    `number` orders the trials of a stage; it is not part of the trial's id, nor is the stop point.
    """

    spec: TrialSpec
    number: int
    until_epoch: int | None = None

    @property
    def key(self) -> tuple[str, int | None]:
        return self.spec.id, self.until_epoch

    @property
    def devices(self) -> int:
        """How many devices it is trained on; what is only measured takes one."""
        trains = self.spec.horizon_epochs is not None or self.spec.horizon_steps is not None
        return int(self.spec.tables["train"].get("devices_per_trial", 1)) if trains else 1

    def to_json(self) -> dict[str, Any]:
        return {"number": self.number, "until_epoch": self.until_epoch, "spec": self.spec.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> WorkItem:
        return cls(TrialSpec.from_json(value["spec"]), value["number"], value["until_epoch"])


@dataclass(frozen=True)
class Rank:
    """One of the `count` processes that train a trial together, each on a device of its own; `number` 0 answers.

    `meeting`: the file by which they find each other.
    """

    number: int
    count: int
    meeting: Path


@dataclass(frozen=True)
class TrialEnv:
    """Where a trial runs. Nothing here may change its outcome, so nothing here is in its id.

    `recipe_dir`: folder that `file.py:name` and relative paths start from. `stage_dir`: where checkpoints go
    (None: keep none). `device`: a torch device string. `cache_dir`: decoded data (None: the user's cache folder).
    `rank`: this process's part in a trial on several devices (None: it trains alone). `room`: what its memory is
    foreseen by (None: it is started whatever it needs).
    """

    recipe_dir: Path
    stage_dir: Path | None = None
    device: str = "cpu"
    cache_dir: Path | None = None
    rank: Rank | None = None
    room: Room | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and answers: it is the only one of its trial, or the first."""
        return self.rank is None or self.rank.number == 0


@dataclass(frozen=True)
class Progress:
    """A trial's news while it runs: the share that is done (0..1) and a few words; `lasting`: a line that stays.

    `rows`: those that the curve has got since the last news that had some. `kept`: the best epoch so far and its score,
    where its weights lie on the disk.
    """

    number: int
    fraction: float
    note: str = ""
    lasting: bool = False
    rows: Sequence[Mapping[str, Any]] = ()
    kept: tuple[int, float | None] | None = None
