"""The stages of the checklist. A stage turns artifacts into trials and trial results into a verdict.

It never trains and never prints. A stage is a module of this package, listed in
`tuner.stages.checklist`, with

- a docstring whose first line says which question it answers;
- `NEEDS`: the stages whose results it reads;
- `DEPENDS`: the recipe tables (or dotted keys) that its result depends on;
- `Settings`: a frozen pydantic model; its fields become the command's options, their descriptions the help;
- `plan(recipe, inputs, settings, history) -> list[WorkItem]`: pure; the next generation of work items, asked
  again when those have finished (`history`: their records, by number) until it gives none;
- `judge(recipe, inputs, settings, results) -> StageResult`: pure as well.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field

from tuner.core.result import Record, StageResult
from tuner.core.trial import TrialSpec, WorkItem, apply_overrides, trial_tables
from tuner.recipe.model import Recipe
from tuner.search.budget import EXAMPLES, Bounds, BudgetText, Outline
from tuner.stages.checklist import NAMES


class StageSettings(BaseModel):
    """Base of every stage's Settings: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class SearchSettings(StageSettings):
    """Of a stage that searches. With a budget, `trials` and `epochs` are those of the plan that was made for it."""

    BOUNDS: ClassVar[Bounds]

    trials: int = Field(ge=1, description="configurations to try")
    epochs: int = Field(ge=1, description="epochs per configuration")
    budget: BudgetText = Field(None, description=f"plan trials and epochs to fit: {EXAMPLES}")

    def planned(self, trials: int, epochs: int) -> Self:
        return self.model_copy(update={"trials": trials, "epochs": epochs})

    def outline(self) -> Outline:
        """Return the shape of the search: how many trials train how far."""
        raise NotImplementedError


@dataclass(frozen=True)
class Facts:
    """What the plan must know of the outside: hashes of the user's files and data, and the kind of device."""

    user_files: Mapping[str, str] = field(default_factory=dict)
    data_hash: str = ""
    device: str = "cpu"


@dataclass(frozen=True)
class Inputs:
    """What a stage reads.

    `results`: of the stages in NEEDS, and of what these need in turn, by stage name (the content of `result.json`).
    `trials`: of those in NEEDS. `extra`: the content of other artifacts (test: `winner.json`). `folder`: the name of
    the stage's own folder in the run (`fine`, in round 2 `fine-2`).
    """

    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    trials: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    facts: Facts = Facts()
    extra: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""

    def choice(self, stage: str) -> Mapping[str, Any]:
        """Return the `choice` of an earlier stage; empty when that stage was skipped by force."""
        return self.results.get(stage, {}).get("choice", {})

    def metrics(self, stage: str) -> Mapping[str, Any]:
        """Return the `metrics` of an earlier stage; empty when that stage was skipped by force."""
        return self.results.get(stage, {}).get("metrics", {})

    def spec(self, recipe: Recipe, overrides: Mapping[str, Any] | None = None, **fields: Any) -> TrialSpec:
        """Make a TrialSpec of the recipe's tables with overrides applied. `fields`: seed, horizon_epochs, ..."""
        overrides = dict(overrides or {})
        base = recipe.tables()
        return TrialSpec(
            tables=trial_tables(apply_overrides(base, overrides)),
            overrides=overrides,
            seed=fields.pop("seed", recipe.seed),
            user_files=dict(self.facts.user_files),
            data_hash=self.facts.data_hash,
            device=self.facts.device,
            **fields,
        )


class Stage(Protocol):
    """What a module of this package offers; see the package's docstring."""

    NEEDS: tuple[str, ...]
    DEPENDS: tuple[str, ...]
    Settings: type[StageSettings]

    def plan(self, recipe: Recipe, inputs: Inputs, settings: Any, history: Sequence[Record]) -> list[WorkItem]: ...

    def judge(self, recipe: Recipe, inputs: Inputs, settings: Any, results: Sequence[Record]) -> StageResult: ...


def load(name: str) -> Stage:
    """Import the stage of that name, e.g. `lr-sweep` from `tuner.stages.lr_sweep`."""
    return importlib.import_module(f"tuner.stages.{name.replace('-', '_')}")  # type: ignore[return-value]


def settings_models() -> dict[str, type[StageSettings]]:
    """Return {stage: its Settings}, which recipe validation checks the `[stages]` tables against."""
    return {name: load(name).Settings for name in NAMES}
