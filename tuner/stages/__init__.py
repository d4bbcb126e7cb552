"""The stages of the checklist. A stage turns artifacts into trials and trial results into a verdict.

It never trains and never prints. A stage is a module of this package, listed in `tuner.stages.checklist`, with

- a docstring whose first line says which question it answers;
- `NEEDS`: the stages whose results it reads;
- `DEPENDS`: the recipe tables (or dotted keys) that its result depends on;
- `TRAITS`: what others must know of it (`Traits`), so that nobody asks for a stage by its name;
- `Settings`: a frozen pydantic model; its fields become the command's options, their descriptions the help;
- `Metrics`: the frozen dataclass of what it measures, from `tuner.core.metrics`;
- `plan(recipe, inputs, settings, history) -> list[WorkItem]`: pure; the next generation of work items, asked
  again when those have finished (`history`: their records, by number) until it gives none; of a stage that searches
  it is asked while some still run too, and gives what is run whatever these will show;
- `judge(recipe, inputs, settings, results) -> StageResult[Metrics]`: pure as well.

No stage imports another: what it reads of earlier ones comes in `Inputs`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tuner.checks.earlier.evidence import Earlier
from tuner.core.errors import InputError, UsageError
from tuner.core.result import Finding, Record, StageResult
from tuner.core.store import read_stored_result
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

    def with_fewer_repeats(self) -> list[Self]:
        """Return these settings, then such with fewer and fewer repeats of finalists, as far as there are any."""
        return [self]

    def once(self) -> Self:
        """Return the settings without repeats."""
        return self.with_fewer_repeats()[-1]

    def larger(self) -> list[Self]:
        """Return settings with more configurations that begin with these, the largest first; none: it cannot grow."""
        return []


@dataclass(frozen=True)
class Facts:
    """What the plan must know of the outside: hashes of the user's files and data, and the kind of device."""

    user_files: Mapping[str, str] = field(default_factory=dict)
    data_hash: str = ""
    device: str = "cpu"


M = TypeVar("M")


@dataclass(frozen=True)
class Inputs:
    """What a stage reads.

    `results`: of the stages in NEEDS, and of what these need in turn, by stage name. `trials`: of those in NEEDS.
    `extra`: the content of other artifacts (test: `winner.json`). `folder`: the name of the stage's own folder in the
    run (`fine`, in round 2 `fine-2`). `planned_epochs`: of the searches that the recipe plans, by stage.
    """

    results: Mapping[str, StageResult[Any]] = field(default_factory=dict)
    trials: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    facts: Facts = Facts()
    extra: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""
    planned_epochs: Mapping[str, int] = field(default_factory=dict)

    def choice(self, stage: str) -> Mapping[str, Any]:
        """Return the `choice` of an earlier stage; empty when that stage was skipped by force."""
        return self.results[stage].choice if stage in self.results else {}

    def metrics(self, of: type[M]) -> M:
        """Return what an earlier stage measured, by its dataclass; nothing measured when it was skipped by force."""
        return next((found.metrics for found in self.results.values() if isinstance(found.metrics, of)), of())

    def findings(self, stage: str) -> Sequence[Finding]:
        """Return the findings of an earlier stage; none when that stage was skipped by force."""
        return self.results[stage].findings if stage in self.results else ()

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


@dataclass(frozen=True)
class Traits:
    """What the workflow, the command line and the reports must know of a stage.

    `searches`: its trials are configurations that compete: it takes a budget, of which `budget_share` is its part.
    `any_failure_ends`: one trial whose process fails ends the command. `user_error_ends`: one trial in which the
    user's code raises, or its data cannot be read, ends it; elsewhere only when it happens in every trial.
    `repeats`: whether a round of step 7 runs it again: never, always, or where a change moves the good learning rates.
    `writes_winner`: its choice becomes `winner.json`. `on_test_split`: it reads the winner, and each look is logged.
    `proposes_changes`: its choice has the changes that the next round applies. `judges_logs`: the log of a training
    that tuner never saw can take the place of its inputs.
    """

    searches: bool = False
    budget_share: float = 0.0
    any_failure_ends: bool = False
    user_error_ends: bool = False
    repeats: Literal["never", "always", "when the lr moves"] = "never"
    writes_winner: bool = False
    on_test_split: bool = False
    proposes_changes: bool = False
    judges_logs: bool = False


class Stage(Protocol):
    """What a module of this package offers; see the package's docstring."""

    NEEDS: tuple[str, ...]
    DEPENDS: tuple[str, ...]
    TRAITS: Traits
    Settings: type[StageSettings]
    Metrics: type[Any]

    def plan(self, recipe: Recipe, inputs: Inputs, settings: Any, history: Sequence[Record]) -> list[WorkItem]: ...

    def judge(self, recipe: Recipe, inputs: Inputs, settings: Any, results: Sequence[Record]) -> StageResult[Any]: ...


def earlier(inputs: Inputs) -> Earlier:
    """Return what the steps before have found, the latest step first."""
    return Earlier([finding.to_json() for name in reversed(NAMES) for finding in inputs.findings(name)])


def load(name: str) -> Stage:
    """Import the stage of that name, e.g. `lr-sweep` from `tuner.stages.lr_sweep`."""
    return importlib.import_module(f"tuner.stages.{name.replace('-', '_')}")  # type: ignore[return-value]


def traits(name: str) -> Traits:
    """Return the traits of a stage; none for a name that is no stage's."""
    return load(name).TRAITS if name in NAMES else Traits()


def named(trait: str) -> list[str]:
    """Return the stages that have a trait, in their order: `named("searches")` gives coarse and fine."""
    return [name for name in NAMES if getattr(load(name).TRAITS, trait)]


def only(trait: str) -> str:
    """Return the one stage that has a trait."""
    (name,) = named(trait)
    return name


def that_measures(metrics: type[Any]) -> str:
    """Return the stage whose metrics these are."""
    return next(name for name in NAMES if load(name).Metrics is metrics)


def settings_models() -> dict[str, type[StageSettings]]:
    """Return {stage: its Settings}, which recipe validation checks the `[stages]` tables against."""
    return {name: load(name).Settings for name in NAMES}


def settings_of(name: str, values: Mapping[str, Any]) -> Any:
    """Return a stage's Settings of these values, which may have come as options.

    Raises:
        UsageError: every value that is not allowed, by the name of its option.
    """
    try:
        return load(name).Settings(**values)
    except ValidationError as error:
        problems = [_option_problem(name, item) for item in error.errors()]
        raise UsageError("\n".join(problems), f"tuner {name} --help lists the options.") from None


def _option_problem(name: str, item: Any) -> str:
    text = item["msg"].removeprefix("Value error, ")
    if not item["loc"]:  # of several options together, which the text names
        return f"tuner {name}: {text}"
    return f"--{str(item['loc'][0]).replace('_', '-')}: {text} (got {item['input']!r})"


def planned_epochs(recipe: Recipe) -> dict[str, int]:
    """Return the epochs of the searches that the recipe plans, by stage; options of the command line are not known."""
    models = settings_models()
    return {name: models[name](**recipe.stages.get(name, {})).epochs for name in named("searches")}  # type: ignore[attr-defined]


WINNER = ("trial", "checkpoint", "params")  # what a choice of the stage that names it has


def read_result(path: Path) -> StageResult[Any]:
    """Read a stage's `result.json`.

    Raises:
        InputError: it is missing, broken, or not what tuner wrote; the message names it.
    """
    value = read_stored_result(path)
    hint = f"Run {path.parent.name} again with --fresh."
    if value["stage"] not in NAMES:
        raise InputError(f"{path}: not what tuner wrote (no stage is named {value['stage']!r})", hint)
    try:
        result: StageResult[Any] = StageResult.from_json(value, load(value["stage"]).Metrics)
        asked = WINNER if traits(result.stage).writes_winner and result.choice else ()
        if lacking := [name for name in asked if name not in result.choice]:
            raise ValueError(f"choice.{lacking[0]} is not there")
        return result
    except ValueError as error:
        raise InputError(f"{path}: not what tuner wrote ({error})", hint) from None
