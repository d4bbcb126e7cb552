"""The one stage loop: inputs fresh? -> plan -> execute -> judge -> write -> manifest last."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import tuner
from tuner import rounds, stages
from tuner.core import userfiles
from tuner.core.manifest import (
    Provenance,
    Reason,
    depended,
    input_entry,
    output_hashes,
    read_manifest,
    verify_outputs,
)
from tuner.core.recipe import Recipe, key_lines, place_of
from tuner.core.result import Record, TrialResult
from tuner.core.store import RunDir, StageDir, read_json, write_json
from tuner.core.trial import Progress, TrialEnv, WorkItem
from tuner.errors import EnvironmentProblem, InputError, TunerError, UsageError, UserCodeError

EARLY = ("check-init", "overfit", "lr-sweep", "test")  # where the user's code raising ends the command
RETRIED = ("crash", "timeout", "oom")  # failures of the machine: tried again when an unfinished stage goes on
PACKAGES = ("torch", "torchvision", "numpy", "optuna", "pandas", "scikit-learn")


class ProgressListener(Protocol):
    """What a workflow tells while it works; `tuner.view.progress` draws it."""

    def start(self, title: str, total: int, done: int) -> None: ...
    def update(self, progress: Progress) -> None: ...
    def finish(self, result: TrialResult) -> None: ...
    def stop(self) -> None: ...
    def note(self, text: str) -> None: ...


class Silent:
    """A listener that tells nobody."""

    def start(self, title: str, total: int, done: int) -> None: ...
    def update(self, progress: Progress) -> None: ...
    def finish(self, result: TrialResult) -> None: ...
    def stop(self) -> None: ...
    def note(self, text: str) -> None: ...


@dataclass(frozen=True)
class Options:
    """What the command line says beside the recipe. `flags`: {stage: settings given as options}."""

    run_dir: Path | None = None
    workers: int | None = None
    device: str = "auto"
    force: bool = False
    fresh: bool = False
    allow_stale: bool = False
    command: str = "tuner"
    flags: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """Where a stage stands: missing, interrupted, stale (with reasons) or fresh."""

    label: str
    kind: str
    reasons: Sequence[Reason] = ()
    result: Mapping[str, Any] | None = None
    manifest: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """What `run_stage` gives: the content of result.json, its folder, and whether anything was done for it."""

    result: Mapping[str, Any]
    folder: StageDir
    ran: bool


class Workflow:
    """One recipe, one run folder, one executor that starts when the first trial is needed."""

    def __init__(self, recipe_path: Path, recipe: Recipe, options: Options, listener: ProgressListener) -> None:
        self.recipe_path = recipe_path
        self.recipe = recipe
        self.options = options
        self.listener = listener
        self.folder = recipe_path.resolve().parent
        self.run = RunDir(options.run_dir or Path("runs") / recipe.name)
        self.device = ""
        self._executor: Any = None

    # -- what the run is made from ------------------------------------------------------------------------------

    @cached_property
    def user_modules(self) -> dict[str, Path]:
        return userfiles.user_modules(self.recipe.tables(), self.recipe.search, self.folder)

    @cached_property
    def user_files(self) -> dict[str, str]:
        return userfiles.hash_user_files(self.user_modules)

    @cached_property
    def data_hash(self) -> str:
        return userfiles.hash_data(self.recipe.tables()["data"], self.folder)

    def settings(self, name: str, recipe: Recipe) -> Any:
        """Return the stage's settings: flag, recipe, default, in this order."""
        return stages.load(name).Settings(**{**recipe.stages.get(name, {}), **self.options.flags.get(name, {})})

    def recipe_of(self, round_number: int) -> Recipe:
        """Return the recipe of a round: the user's, with the changes that the round applies."""
        return rounds.recipe_of(self.recipe, self.run.path, round_number)

    def result_folder(self, name: str, round_number: int) -> StageDir:
        """Return the folder whose result of a stage holds in a round: its own, or that of a round it is built on."""
        return self.run.stage(rounds.folder_name(name, rounds.effective_round(self.run.path, name, round_number)))

    def provenance(self, name: str, round_number: int = 1) -> Provenance:
        stage = stages.load(name)
        recipe = self.recipe_of(round_number)
        inputs = {}
        for need in stage.NEEDS:
            folder = self.result_folder(need, round_number)
            if folder.manifest_path.exists() and folder.result_path.exists():
                inputs[need] = input_entry(folder.result_path, read_json(folder.result_path))
        return Provenance(
            tables=depended(recipe, (*stage.DEPENDS, "accept")),
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
        result = read_json(folder.result_path)
        reasons = self.provenance(name, round_number).differences(manifest, own_settings)
        for need in stages.load(name).NEEDS:
            upstream = self.state(need, rounds.effective_round(self.run.path, need, round_number))
            if upstream.kind != "fresh":
                reasons += [Reason(f"{need} is {upstream.kind}", "fresh", upstream.kind), *upstream.reasons]
        reasons = list(dict.fromkeys(reasons))
        return State(folder.label, "stale" if reasons else "fresh", reasons, result, manifest)

    def require_inputs(self, name: str, round_number: int = 1) -> dict[str, Mapping[str, Any]]:
        """Return the results that a stage needs, and those that these need in turn.

        Raises:
            InputError: one is missing, stale (key, old and new are listed) or has failed, and the options don't allow it.
        """
        results = {}
        for need in stages.load(name).NEEDS:
            state = self.state(need, rounds.effective_round(self.run.path, need, round_number))
            command = f"tuner {need} {self.recipe_path}"
            if state.result is None:
                if self.options.force:
                    continue
                raise InputError(f"{name} needs the result of {need}, which is {state.kind} in {self.run.path}", f"Run it first: {command}")
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

    def _earlier(self, name: str, round_number: int) -> dict[str, Mapping[str, Any]]:
        """Return the results of every stage that `name` needs, at any depth, as far as they are there."""
        found: dict[str, Mapping[str, Any]] = {}
        for need in stages.load(name).NEEDS:
            folder = self.result_folder(need, round_number)
            if folder.manifest_path.exists():
                found |= {**self._earlier(need, round_number), need: read_json(folder.result_path)}
        return found

    def check_folder(self) -> None:
        """Refuse a run folder that belongs to a recipe of another name."""
        for path in sorted(self.run.path.glob("*/recipe.json")):
            name = read_json(path).get("name")
            if name != self.recipe.name:
                raise InputError(
                    f"{self.run.path} belongs to the recipe {name!r}, not to {self.recipe.name!r}",
                    "Choose another folder with --run-dir, or rename the recipe.",
                )

    # -- running ------------------------------------------------------------------------------------------------

    def locked(self) -> AbstractContextManager[None]:
        return self.run.locked(self.options.command)

    def run_stage(self, name: str, round_number: int = 1, own_settings: bool = True) -> Outcome:
        """Bring a stage's result up to date; a fresh one is returned as it is."""
        self.check_folder()
        folder = self.run.stage(rounds.folder_name(name, round_number))
        state = self._stored(name, round_number, own_settings)
        if state is not None:
            return Outcome(state.result or {}, folder, ran=False)
        results = self.require_inputs(name, round_number)
        recipe = self.recipe_of(round_number)
        settings = self.settings(name, recipe)
        executor = self._ready_executor(folder)
        self._same_device(name, round_number)
        if self.options.fresh and folder.path.exists():
            shutil.rmtree(folder.path)
        inputs = stages.Inputs(results, self._trials(name, round_number), self._facts(), self._extra(name))
        started = time.monotonic()
        folder.begin(recipe.model_dump(mode="json"))
        records = self._execute(name, recipe, inputs, settings, folder, executor)
        result = stages.load(name).judge(recipe, inputs, settings, records)
        accepted = set(recipe.accept.codes)
        result = replace(result, findings=[replace(f, accepted=f.accepted or f.code in accepted) for f in result.findings])
        content = result.to_json()
        self._write(name, round_number, folder, records, content, settings, time.monotonic() - started)
        return Outcome(read_json(folder.result_path), folder, ran=True)

    def run_all(self, names: Sequence[str], show: Callable[[str, int, Outcome], None]) -> bool:
        """Bring the stages up to date in order; stop at a failed verdict, unless forced. Returns whether all were done."""
        for name in names:
            outcome = self.run_stage(name, own_settings=False)
            show(name, 1, outcome)
            if outcome.result["verdict"] == "fail" and not self.options.force:
                return False
        return True

    def plan_only(self, name: str) -> dict[str, Any]:
        """Return what a stage would do first, without doing it (`--dry-run`)."""
        results = self.require_inputs(name)
        settings = self.settings(name, self.recipe)
        kind = "cpu" if self.options.device == "auto" else self.options.device.split(":")[0]
        facts = stages.Facts(self.user_files, self.data_hash, kind)
        inputs = stages.Inputs(results, self._trials(name, 1), facts, self._extra(name))
        items: list[WorkItem] = stages.load(name).plan(self.recipe, inputs, settings, [])
        finished = {record.item.key for record in self.run.stage(name).records()}
        trials = [
            {
                "number": item.number,
                "params": dict(item.spec.overrides),
                "seed": item.spec.seed,
                "epochs": item.until_epoch or item.spec.horizon_epochs,
                "steps": item.spec.horizon_steps,
                "measure": sorted(item.spec.measure),
                "finished": item.key in finished,
            }
            for item in items
        ]
        return {"stage": name, "settings": settings.model_dump(mode="json"), "trials": trials}

    def plan_pending(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return, for each stage, that it is fresh, or its plan; those behind the first that is not fresh wait for it."""
        plans: list[dict[str, Any]] = []
        for name in names:
            state = self.state(name)
            if state.kind == "fresh":
                plans.append({"stage": name, "state": "fresh"})
            elif any(plan["state"] != "fresh" for plan in plans):
                plans.append({"stage": name, "state": "waits for the steps before it"})
            else:
                plans.append({"state": state.kind, **self.plan_only(name)})
        return plans

    def run_rounds(self, wanted: int, show: Callable[[str, int, Outcome], None], say: Callable[[str], None]) -> None:
        """Do rounds of step 7: apply what the diagnosis proposes, search again, keep it only if it helped."""
        base = 1
        for number in range(2, wanted + 2):
            changes = read_json(self.result_folder("diagnose", base).result_path)["choice"].get("changes", [])
            if not changes:
                say(f"Round {number}: the diagnosis proposes no change; nothing to try.")
                return
            rounds.begin(self.recipe_path, self.run.path, number, base, changes)
            say(f"Round {number}: trying " + "; ".join(f"{c['key']}: {c['from']} -> {c['to']}" for c in changes))
            for name in rounds.stages_of(self.run.path, number):
                outcome = self.run_stage(name, number, own_settings=False)
                show(name, number, outcome)
                if outcome.result["verdict"] == "fail" and not self.options.force:
                    say(f"Round {number} stops here; the winner of round {base} stays.")
                    return
            kept, why = self._keep_if_better(base, number)
            say(f"Round {number} is {'kept' if kept else f'not kept, round {base} stays'}: {why}")
            if not kept:
                return
            base = number

    def _keep_if_better(self, base: int, number: int) -> tuple[bool, str]:
        folders = [self.run.stage(rounds.folder_name("fine", which)) for which in (base, number)]
        old, new = (read_json(folder.result_path) for folder in folders)
        kept, why = rounds.compare(old, new, folders[0].records(), folders[1].records())
        rounds.store_entry(self.run.path, {**rounds.entry(self.run.path, number), "kept": kept, "why": why})
        write_json(self.run.winner_path, rounds.winner(new, number) if kept else rounds.winner(old, base))
        return kept, why

    def _stored(self, name: str, round_number: int, own_settings: bool) -> State | None:
        """Return the state whose result answers the command already, or None when there is work to do."""
        if self.options.fresh and (name != "test" or self.options.force):
            return None
        state = self.state(name, round_number, own_settings)
        if name == "test":
            return None if state.result is None or self.options.force else state
        return state if state.kind == "fresh" or (state.kind == "stale" and self.options.allow_stale) else None

    def _facts(self) -> stages.Facts:
        return stages.Facts(self.user_files, self.data_hash, self.device)

    def _trials(self, name: str, round_number: int) -> dict[str, list[Record]]:
        needs = stages.load(name).NEEDS
        return {need: self.result_folder(need, round_number).records() for need in needs}

    def _extra(self, name: str) -> dict[str, Any]:
        """Return what a stage reads beside results: for test the winner, verified, and how often it was looked at."""
        if name != "test":
            return {}
        winner = read_json(self.run.winner_path)
        label, _, rest = str(winner.get("checkpoint", "")).partition("/")
        folder = self.run.stage(label)
        manifest = read_manifest(folder) if label else None
        if manifest is None or rest not in manifest["outputs"]:
            raise InputError(f"{self.run.winner_path} names a checkpoint that no stage wrote: {winner.get('checkpoint')!r}", "Run fine again with --fresh.")
        verify_outputs(folder, manifest, [rest])
        return {"winner": winner, "looks": len(_looks(self.run.path))}

    def _same_device(self, name: str, round_number: int) -> None:
        if self.options.allow_stale:
            return
        for need in stages.load(name).NEEDS:
            manifest = read_manifest(self.result_folder(need, round_number))
            if manifest is not None and manifest.get("device") != self.device:
                raise InputError(
                    f"{need} was run on device kind {manifest.get('device')!r}, this command uses {self.device!r}",
                    f"Give --device {manifest.get('device')}, run {need} again with --fresh, or accept it with --allow-stale.",
                )

    def _ready_executor(self, folder: StageDir) -> Any:
        """Start the executor on first use and try the recipe out in it."""
        env = TrialEnv(self.folder, folder.path.resolve(), self.device or self.options.device, cache_dir())
        if self._executor is not None:
            self._executor.env = env
            return self._executor
        from tuner.execute.process import ProcessExecutor, default_workers
        from tuner.execute.serial import SerialExecutor

        workers = default_workers() if self.options.workers is None else self.options.workers
        on_progress = self.listener.update
        self._executor = ProcessExecutor(env, workers, on_progress) if workers else SerialExecutor(env, on_progress)
        self.listener.start("trying the recipe out", 0, 0)
        try:
            answer = self._executor.preflight(self.recipe.tables())
        finally:
            self.listener.stop()
        if answer["problems"]:
            lines = key_lines(self.recipe_path)
            texts = [f"{place_of(key, self.recipe_path, lines)}: {text}" for key, text in answer["problems"]]
            raise UsageError("\n".join(texts), "Mend the recipe, or override a key with --set key=value.")
        self.device = answer["device"]
        self._executor.env = replace(env, device=self.device)
        return self._executor

    def close(self) -> None:
        self.listener.stop()
        if self._executor is not None:
            self._executor.close()

    def _execute(
        self, name: str, recipe: Recipe, inputs: stages.Inputs, settings: Any, folder: StageDir, executor: Any
    ) -> list[Record]:
        """Plan and run one generation after the other, reusing what an earlier, interrupted call has finished."""
        stage = stages.load(name)
        finished = {record.item.key: record.result for record in folder.records() if not _worth_retrying(record)}
        records: list[Record] = []
        while items := stage.plan(recipe, inputs, settings, sorted(records, key=lambda record: record.number)):
            todo = list({item.key: item for item in items if item.key not in finished}.values())
            self.listener.start(stage.TITLE, len(records) + len(items), len(records) + len(items) - len(todo))
            numbers = {item.key: item for item in todo}
            try:
                for result in executor.run(todo):
                    record = _as_stored(Record(numbers[result.id, result.until_epoch], result))
                    raise_hopeless(name, [record], every=False)
                    with uninterrupted():
                        folder.append(record)
                    finished[record.item.key] = record.result
                    self.listener.finish(record.result)
            finally:
                self.listener.stop()
            records += [Record(item, finished[item.key]) for item in items]
            raise_hopeless(name, records, every=True)
        return sorted(records, key=lambda record: record.number)

    def _write(
        self,
        name: str,
        round_number: int,
        folder: StageDir,
        records: Sequence[Record],
        result: Mapping[str, Any],
        settings: Any,
        wall_seconds: float,
    ) -> None:
        """Write everything that the stage leaves behind; the manifest comes last."""
        if records:
            folder.rewrite(records)
        kept = {entry.get("trial") for entry in result["metrics"].get("finalists", [])} | {result["choice"].get("trial")}
        folder.keep_checkpoints({str(trial) for trial in kept if trial})
        write_json(folder.result_path, result)
        userfiles.copy_user_files(self.user_modules, self.run.path / "user")
        draw_plots(name, result, folder, self.listener)
        if name == "test":
            _log_look(self.run.path, self.options.command, result)
        if name == "fine" and result["choice"].get("checkpoint") and round_number == 1:
            write_json(self.run.winner_path, rounds.winner(result, round_number))
        manifest = {
            "schema": 1,
            "stage": name,
            "round": round_number,
            "recipe": str(self.recipe_path),
            **vars(self.provenance(name, round_number)),
            "seed": self.recipe.seed,
            "outputs": output_hashes(folder),
            "versions": versions(),
            "device": self.device,
            "command": self.options.command,
            "forced": self.options.force,
            "allowed_stale": self.options.allow_stale,
            "wall_seconds": round(wall_seconds, 3),
            "finished_at": time.strftime("%Y-%m-%dT%H:%M:%S"),
        }
        write_json(folder.manifest_path, manifest)


def cache_dir() -> Path:
    """Return the folder of decoded data: $TUNER_CACHE, or `tuner` in the user's cache folder."""
    base = os.environ.get("TUNER_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "tuner"
    return Path(base).expanduser()


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on, without importing the packages."""
    found = {"tuner": tuner.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def draw_plots(name: str, result: Mapping[str, Any], folder: StageDir, listener: ProgressListener) -> None:
    """Draw the stage's plots; a plot that cannot be drawn is said, and costs nobody a finished stage."""
    from tuner.view import plots

    try:
        plots.draw(name, dict(result), folder.path)
    except OSError as error:
        raise EnvironmentProblem(f"cannot write {folder.path / 'plots'}: {error}", "Look at the disk, then give the same command again.") from error
    except Exception as error:
        listener.note(f"the plots of {name} could not be drawn: {type(error).__name__}: {error}")


def raise_hopeless(name: str, records: Sequence[Record], every: bool) -> None:
    """Raise the error that ends the command: in steps 1-3 and test any failure, later user code failing in every trial.

    `every`: the records are all there are; otherwise they are one that has just come in.
    """
    failed = [record.result for record in records if record.result.status == "failed"]
    if not failed or failed[0].error is None:
        return
    error = failed[0].error
    all_user_code = len(failed) == len(records) and all(r.error and r.error.kind == "user-code" for r in failed)
    if not (all_user_code and every) and name not in EARLY:
        return
    kinds: dict[str, type[TunerError]] = {"user-code": UserCodeError, "data": InputError}
    if error.kind in kinds:
        raise kinds[error.kind](error.message, error.hint)
    if name in ("check-init", "overfit", "test") or (every and len(failed) == len(records)):
        raise EnvironmentProblem(f"{name}: a trial failed ({error.kind}): {error.message}", error.hint)


def _worth_retrying(record: Record) -> bool:
    return record.result.error is not None and record.result.error.kind in RETRIED


def _as_stored(record: Record) -> Record:
    """Return the record as it will be read back, so that a resumed stage decides on the same values."""
    return Record.from_json(json.loads(json.dumps(record.to_json(), allow_nan=False)))


def _looks(run: Path) -> list[dict[str, Any]]:
    path = run / "test-looks.json"
    return read_json(path) if path.exists() else []


def _log_look(run: Path, command: str, result: Mapping[str, Any]) -> None:
    """Record that the test split was looked at."""
    entry = {"at": time.strftime("%Y-%m-%dT%H:%M:%S"), "command": command, "accuracy": result["metrics"].get("accuracy")}
    write_json(run / "test-looks.json", [*_looks(run), entry])


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM until the block has ended, then deliver them."""
    held: list[tuple[int, Any]] = []
    before: dict[int, Callable[..., Any] | int | None] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, lambda *args: held.append(args))
    except ValueError:  # not the main thread: signals do not come here
        with nullcontext():
            yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number, frame in held:
            handler = before[number]
            if callable(handler):
                handler(number, frame)
