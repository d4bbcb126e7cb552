"""One recipe and its run folder: what every stage is made from, and whether its result still holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from tuner import stages
from tuner.core.errors import InputError
from tuner.core.manifest import Provenance, Reason, depended, input_entry, read_manifest, verify_outputs
from tuner.core.result import Record, StageResult, last_of_each
from tuner.core.shell import line_of
from tuner.core.stage_ref import StageRef
from tuner.core.store import RunDir, read_recipe
from tuner.core.trial import MAY_BE_ABSENT
from tuner.recipe import user_files
from tuner.recipe.model import Recipe
from tuner.workflow import rounds
from tuner.workflow.best_so_far import so_far
from tuner.workflow.options import Options

M = TypeVar("M")


@dataclass(frozen=True)
class State:
    """Where a stage stands: missing, interrupted, stale (with reasons) or fresh.

    `of_inputs`: nothing has changed but that an input is stale.
    """

    ref: StageRef
    kind: str
    reasons: Sequence[Reason] = ()
    result: StageResult[Any] | None = None
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

    def command(self, name: str, *words: str) -> str:
        """Return a command about this recipe and this run, to be typed."""
        return line_of(["tuner", name, str(self.recipe_path), *words, *self.options.repeated])

    # -- what the run is made from ------------------------------------------------------------------------------

    @cached_property
    def user_modules(self) -> dict[str, Path]:
        return user_files.user_modules(self.recipe.tables(), self.recipe.search, self.folder)

    def check_user_files(self) -> None:
        """Refuse to go on with trials where a module of the user's has changed: nobody knows which of them ran it.

        Raises:
            InputError: "was changed while the command ran".
        """
        known = self.user_files
        for key, path in self.user_modules.items():
            if not path.is_file() or user_files.sha256(path) != known[key]:
                raise InputError(
                    f"{path} was changed while the command ran: which trials ran the new file is not known",
                    "What had ended before is kept. Give the same command again: what depends on the file runs again.",
                )

    @cached_property
    def user_files(self) -> dict[str, str]:
        modules = user_files.hash_user_files(self.user_modules)
        return {**modules, **user_files.hash_weights(self.recipe.tables(), self.folder)}

    @cached_property
    def data_hash(self) -> str:
        return user_files.hash_data(self.recipe.tables()["data"], self.folder)

    def settings(self, ref: StageRef) -> Any:
        """Return the stage's settings: flag, recipe, default, in this order.

        Raises:
            UsageError: a flag's value is not allowed.
        """
        values = {**self.recipe_of(ref).stages.get(ref.stage, {}), **self.options.flags.get(ref.stage, {})}
        return stages.settings_of(ref.stage, values)

    def recipe_of(self, ref: StageRef) -> Recipe:
        """Return the recipe that a stage is run with: the user's, with the changes of the round it is made from."""
        return rounds.recipe_of(self.recipe, self.run.path, rounds.source_round(self.run, ref))

    def input_of(self, ref: StageRef, need: str) -> StageRef:
        """Return where a stage finds a result that it needs: `workflow.rounds.input_of`."""
        return rounds.input_of(self.run, ref, need)

    def result_of(self, ref: StageRef) -> StageResult[Any] | None:
        """Return the result of a finished stage that holds in a round; None where there is none."""
        folder = rounds.holding(self.run, ref).folder(self.run)
        return stages.read_result(folder.result_path) if folder.manifest_path.exists() else None

    def metrics(self, of: type[M], round_number: int) -> M:
        """Return what a stage, named by its dataclass, measured in a round; nothing measured where it has not run."""
        name = next(name for name in stages.NAMES if stages.load(name).Metrics is of)
        found = self.result_of(StageRef(name, round_number))
        return of() if found is None else found.metrics

    def records_of(self, ref: StageRef) -> list[Record]:
        """Return all finished items of a finished stage, those at rungs too; none unless it has finished."""
        folder = rounds.holding(self.run, ref).folder(self.run)
        return folder.records() if folder.manifest_path.exists() else []

    def provenance(self, ref: StageRef) -> Provenance:
        """Return all that a stage's result is made from, as it is now."""
        stage, recipe = stages.load(ref.stage), self.recipe_of(ref)
        inputs = {}
        for need in stage.NEEDS:
            folder = self.input_of(ref, need).folder(self.run)
            if folder.manifest_path.exists() and folder.result_path.exists():
                inputs[need] = input_entry(folder.result_path, stages.read_result(folder.result_path).choice)
        return Provenance(
            tables=depended(recipe.model_dump(), (*stage.DEPENDS, *MAY_BE_ABSENT, "accept", "seed")),
            settings=self.settings(ref).model_dump(mode="json"),
            stage_table=recipe.stages.get(ref.stage, {}),
            user_files=self.user_files,
            data_hash=self.data_hash,
            inputs=inputs,
        )

    # -- freshness ----------------------------------------------------------------------------------------------

    def state(self, ref: StageRef, own_settings: bool = False) -> State:
        """Return where a stage stands.

        Raises:
            InputError: a file of the stage was changed by hand, or is damaged.
        """
        folder = ref.folder(self.run)
        manifest = read_manifest(folder)
        if manifest is None:
            return State(ref, "interrupted" if folder.trials_path.exists() else "missing")
        if not self.options.fresh:
            verify_outputs(folder, manifest)
        result = stages.read_result(folder.result_path)
        reasons = self.provenance(ref).differences(manifest, own_settings)
        of_inputs = not reasons
        for need in stages.load(ref.stage).NEEDS:
            upstream = self.state(self.input_of(ref, need))
            if upstream.kind != "fresh":
                reasons += [Reason(need, "fresh", upstream.kind), *upstream.reasons]
        reasons = list({str(reason): reason for reason in reasons}.values())  # a value may be a list: not hashable
        return State(ref, "stale" if reasons else "fresh", reasons, result, manifest, of_inputs)

    def require_inputs(self, ref: StageRef) -> dict[str, StageResult[Any]]:
        """Return the results that a stage needs, and those that these need in turn, by stage.

        Raises:
            InputError: one is missing, stale (key, old and new are listed) or failed, and the options don't allow it.
        """
        results: dict[str, StageResult[Any]] = {}
        for need in stages.load(ref.stage).NEEDS:
            state = self.state(self.input_of(ref, need))
            if state.result is None:
                if self.options.force or (stages.traits(ref.stage).on_test_split and so_far(self.run) is not None):
                    continue
                raise InputError(
                    f"{ref.stage} needs the result of {need}, which is {state.kind} in {self.run.path}",
                    f"Run it first: {self._way_to(state.ref)}",
                )
            if state.reasons and not self.options.allow_stale:
                listed = "\n".join(f"  {reason}" for reason in state.reasons)
                raise InputError(
                    f"{ref.stage} needs {need}, whose result is stale:\n{listed}",
                    f"Run it again: {self.command('run', '--through', need)} (or accept it with --allow-stale)",
                )
            if state.result.verdict == "fail" and not self.options.force:
                command = self.command(need)
                raise InputError(
                    f"{ref.stage} needs {need}, which failed: {state.result.headline}",
                    f"Fix the cause and run it again: {command} (or go on regardless with --force)",
                )
            results[need] = state.result
        return {**self._earlier(ref), **results}

    def _way_to(self, ref: StageRef) -> str:
        """Return the command that makes a result: its stage's own, or all up to it where more is missing."""
        folders = [self.input_of(ref, need).folder(self.run) for need in stages.load(ref.stage).NEEDS]
        if all(folder.manifest_path.exists() for folder in folders):
            return self.command(ref.stage)
        return self.command("run", "--through", ref.stage)

    def _earlier(self, ref: StageRef) -> dict[str, StageResult[Any]]:
        """Return the results of every stage that a stage needs, at any depth, as far as they are there."""
        found: dict[str, StageResult[Any]] = {}
        for need in stages.load(ref.stage).NEEDS:
            source = StageRef(need, rounds.source_round(self.run, ref))
            if (result := self.result_of(source)) is not None:
                found |= {**self._earlier(source), need: result}
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

    def trials(self, ref: StageRef) -> dict[str, list[Record]]:
        """Return the finished trials of the stages that a stage needs, one record each."""
        needs = stages.load(ref.stage).NEEDS
        return {need: last_of_each(self.input_of(ref, need).folder(self.run).records()) for need in needs}

    def check_own_device(self, state: State) -> None:
        """Refuse to show a result that was made on another kind of device than the command names."""
        kind, made = self.options.device.split(":")[0], (state.manifest or {}).get("device")
        if kind not in ("auto", made) and not self.options.allow_stale:
            raise InputError(
                f"{state.ref} was run on device kind {made!r}, this command names {kind!r}",
                f"Give --device {made}, do the step over with --fresh, or add --allow-stale.",
            )

    def check_device(self, ref: StageRef, device: str) -> None:
        """Refuse inputs that were made on another kind of device."""
        if self.options.allow_stale:
            return
        for need in stages.load(ref.stage).NEEDS:
            manifest = read_manifest(self.input_of(ref, need).folder(self.run))
            if manifest is not None and manifest.get("device") != device:
                raise InputError(
                    f"{need} was run on device kind {manifest.get('device')!r}, this command uses {device!r}",
                    f"Give --device {manifest.get('device')}, run {need} again with --fresh, or add --allow-stale.",
                )
