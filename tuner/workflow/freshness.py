"""One recipe and its run folder: what every stage is made from, and whether its result still holds."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tuner import stages
from tuner.core.errors import InputError, UsageError
from tuner.core.manifest import Provenance, Reason, depended, input_entry, read_manifest, verify_outputs
from tuner.core.result import Record, last_of_each
from tuner.core.store import RunDir, StageDir, read_json, read_recipe, read_result
from tuner.recipe import user_files
from tuner.recipe.model import Recipe
from tuner.workflow import rounds


@dataclass(frozen=True)
class Options:
    """What the command line says beside the recipe. `flags`: {stage: settings given as options}.

    `overrides`: {dotted key: value} of `--set` and `--seed`.
    `deadline`: how many seconds a trial may take (None: by what finished trials took).
    """

    run_dir: Path | None = None
    workers: int | None = None
    device: str = "auto"
    deadline: float | None = None
    force: bool = False
    fresh: bool = False
    allow_stale: bool = False
    command: str = "tuner"
    flags: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """Where a stage stands: missing, interrupted, stale (with reasons) or fresh.

    `of_inputs`: nothing has changed but that an input is stale.
    """

    label: str
    kind: str
    reasons: Sequence[Reason] = ()
    result: Mapping[str, Any] | None = None
    manifest: Mapping[str, Any] | None = None
    of_inputs: bool = False


class Session:
    """Reads; writes nothing, runs nothing."""

    def __init__(self, recipe_path: Path, recipe: Recipe, options: Options) -> None:
        self.recipe_path = recipe_path
        self.recipe = recipe
        self.options = options
        self.folder = recipe_path.resolve().parent
        self.run = RunDir(options.run_dir or Path("runs") / recipe.name)

    # -- what the run is made from ------------------------------------------------------------------------------

    @cached_property
    def user_modules(self) -> dict[str, Path]:
        return user_files.user_modules(self.recipe.tables(), self.recipe.search, self.folder)

    @cached_property
    def user_files(self) -> dict[str, str]:
        return user_files.hash_user_files(self.user_modules)

    @cached_property
    def data_hash(self) -> str:
        return user_files.hash_data(self.recipe.tables()["data"], self.folder)

    def settings(self, name: str, recipe: Recipe) -> Any:
        """Return the stage's settings: flag, recipe, default, in this order.

        Raises:
            UsageError: a flag's value is not allowed.
        """
        values = {**recipe.stages.get(name, {}), **self.options.flags.get(name, {})}
        try:
            return stages.load(name).Settings(**values)
        except ValidationError as error:
            problems = [
                f"--{str(item['loc'][0]).replace('_', '-')}: {item['msg'].removeprefix('Value error, ')}"
                f" (got {item['input']!r})"
                for item in error.errors()
            ]
            raise UsageError("\n".join(problems), f"tuner {name} --help lists the options.") from None

    def recipe_of(self, round_number: int) -> Recipe:
        """Return the recipe of a round: the user's, with the changes that the round applies."""
        return rounds.recipe_of(self.recipe, self.run.path, round_number)

    def basis(self, name: str, round_number: int) -> int:
        """Return the round whose recipe and results a stage is made from: its own; test's is the winner's."""
        if name != "test":
            return round_number
        with contextlib.suppress(InputError):  # who needs the winner says what is wrong with it
            return read_json(self.run.winner_path).get("round", 1)
        return 1

    def result_folder(self, name: str, round_number: int) -> StageDir:
        """Return the folder whose result of a stage holds in a round: its own, or that of a round it is built on."""
        return self.run.stage(rounds.folder_name(name, rounds.effective_round(self.run.path, name, round_number)))

    def result_of(self, name: str, round_number: int) -> Mapping[str, Any]:
        """Return the result of a stage that holds in a round; empty where there is none."""
        folder = self.result_folder(name, round_number)
        return read_result(folder.result_path) if folder.manifest_path.exists() else {}

    def records_of(self, name: str, round_number: int) -> list[Record]:
        """Return all finished items of a stage, those at rungs too; none unless the stage has finished."""
        folder = self.result_folder(name, round_number)
        return folder.records() if folder.manifest_path.exists() else []

    def provenance(self, name: str, round_number: int = 1) -> Provenance:
        stage = stages.load(name)
        round_number = self.basis(name, round_number)
        recipe = self.recipe_of(round_number)
        inputs = {}
        for need in stage.NEEDS:
            folder = self.result_folder(need, round_number)
            if folder.manifest_path.exists() and folder.result_path.exists():
                inputs[need] = input_entry(folder.result_path, read_result(folder.result_path))
        return Provenance(
            tables=depended(recipe.model_dump(), (*stage.DEPENDS, "accept", "seed")),
            settings=self.settings(name, recipe).model_dump(mode="json"),
            stage_table=recipe.stages.get(name, {}),
            user_files=self.user_files,
            data_hash=self.data_hash,
            inputs=inputs,
        )

    # -- freshness ----------------------------------------------------------------------------------------------

    def state(self, name: str, round_number: int = 1, own_settings: bool = False) -> State:
        """Say where a stage stands.

        Raises:
            InputError: a file of the stage was changed by hand, or is damaged.
        """
        folder = self.run.stage(rounds.folder_name(name, round_number))
        manifest = read_manifest(folder)
        if manifest is None:
            return State(folder.label, "interrupted" if folder.trials_path.exists() else "missing")
        if not self.options.fresh:
            verify_outputs(folder, manifest)
        result = read_result(folder.result_path)
        reasons = self.provenance(name, round_number).differences(manifest, own_settings)
        of_inputs = not reasons
        round_number = self.basis(name, round_number)
        for need in stages.load(name).NEEDS:
            upstream = self.state(need, rounds.effective_round(self.run.path, need, round_number))
            if upstream.kind != "fresh":
                reasons += [Reason(need, "fresh", upstream.kind), *upstream.reasons]
        reasons = list({str(reason): reason for reason in reasons}.values())  # a value may be a list: not hashable
        return State(folder.label, "stale" if reasons else "fresh", reasons, result, manifest, of_inputs)

    def require_inputs(self, name: str, round_number: int = 1) -> dict[str, Mapping[str, Any]]:
        """Return the results that a stage needs, and those that these need in turn.

        Raises:
            InputError: one is missing, stale (key, old and new are listed) or failed, and the options don't allow it.
        """
        results = {}
        round_number = self.basis(name, round_number)
        for need in stages.load(name).NEEDS:
            state = self.state(need, rounds.effective_round(self.run.path, need, round_number))
            command = f"tuner {need} {self.recipe_path}"
            if state.result is None:
                if self.options.force:
                    continue
                raise InputError(
                    f"{name} needs the result of {need}, which is {state.kind} in {self.run.path}",
                    f"Run it first: {self._way_to(need, round_number)}",
                )
            if state.reasons and not self.options.allow_stale:
                listed = "\n".join(f"  {reason}" for reason in state.reasons)
                raise InputError(
                    f"{name} needs {need}, whose result is stale:\n{listed}",
                    f"Run it again: tuner run {self.recipe_path} --through {need} (or accept it with --allow-stale)",
                )
            if state.result["verdict"] == "fail" and not self.options.force:
                raise InputError(
                    f"{name} needs {need}, which failed: {state.result['headline']}",
                    f"Mend the cause and run it again: {command} (or go on regardless with --force)",
                )
            results[need] = state.result
        return {**self._earlier(name, round_number), **results}

    def _way_to(self, name: str, round_number: int) -> str:
        """Return the command that makes a result: its stage's own, or all up to it where more is missing."""
        folders = [self.result_folder(need, round_number) for need in stages.load(name).NEEDS]
        if all(folder.manifest_path.exists() for folder in folders):
            return f"tuner {name} {self.recipe_path}"
        return f"tuner run {self.recipe_path} --through {name}"

    def _earlier(self, name: str, round_number: int) -> dict[str, Mapping[str, Any]]:
        """Return the results of every stage that `name` needs, at any depth, as far as they are there."""
        found: dict[str, Mapping[str, Any]] = {}
        for need in stages.load(name).NEEDS:
            if result := self.result_of(need, round_number):
                found |= {**self._earlier(need, round_number), need: result}
        return found

    def check_folder(self) -> None:
        """Refuse a run folder that belongs to a recipe of another name."""
        for path in sorted(self.run.path.glob("*/recipe.json")):
            name = read_recipe(path)["name"]
            if name != self.recipe.name:
                raise InputError(
                    f"{self.run.path} belongs to the recipe {name!r}, not to {self.recipe.name!r}",
                    "Choose another folder with --run-dir, or rename the recipe.",
                )

    def trials(self, name: str, round_number: int) -> dict[str, list[Record]]:
        """Return the finished trials of the stages that a stage needs, one record each."""
        needs = stages.load(name).NEEDS
        round_number = self.basis(name, round_number)
        return {need: last_of_each(self.result_folder(need, round_number).records()) for need in needs}

    def check_own_device(self, state: State) -> None:
        """Refuse to show a result that was made on another kind of device than the command names."""
        kind, made = self.options.device.split(":")[0], (state.manifest or {}).get("device")
        if kind not in ("auto", made) and not self.options.allow_stale:
            raise InputError(
                f"{state.label} was run on device kind {made!r}, this command names {kind!r}",
                f"Give --device {made}, do the step over with --fresh, or add --allow-stale.",
            )

    def check_device(self, name: str, round_number: int, device: str) -> None:
        """Refuse inputs that were made on another kind of device."""
        if self.options.allow_stale:
            return
        round_number = self.basis(name, round_number)
        for need in stages.load(name).NEEDS:
            manifest = read_manifest(self.result_folder(need, round_number))
            if manifest is not None and manifest.get("device") != device:
                raise InputError(
                    f"{need} was run on device kind {manifest.get('device')!r}, this command uses {device!r}",
                    f"Give --device {manifest.get('device')}, run {need} again with --fresh, or add --allow-stale.",
                )
