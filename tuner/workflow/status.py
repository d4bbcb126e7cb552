"""Where every step of a run stands, read from its artifacts: what `tuner status` and `tuner report` show."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner import stages
from tuner.core.errors import InputError, TunerError
from tuner.core.formatting import clipped
from tuner.core.result import StageResult
from tuner.core.stage_ref import StageRef
from tuner.core.store import read_json
from tuner.recipe.file import load_recipe
from tuner.workflow import rounds
from tuner.workflow.freshness import Session, State
from tuner.workflow.options import Options


@dataclass(frozen=True)
class Row:
    """One step: its state (fresh, stale, missing, interrupted, corrupt, finished), why, and its result."""

    ref: StageRef
    state: str
    reasons: Sequence[str] = ()
    when: str = ""
    result: StageResult[Any] | None = None

    @property
    def verdict(self) -> str | None:
        return None if self.result is None else self.result.verdict

    def to_json(self) -> dict[str, Any]:
        return {
            "stage": self.ref.stage,
            "label": self.ref.label,
            "round": self.ref.round,
            "state": self.state,
            "reasons": list(self.reasons),
            "verdict": self.verdict,
            "headline": "" if self.result is None else self.result.headline,
            "when": self.when,
        }


@dataclass(frozen=True)
class Overview:
    """One run: its folder, its recipe and its rows. `problem` says why the recipe cannot be read, where it cannot.

    `log`: the log that was judged, of a run that has no recipe.
    """

    path: Path
    recipe: str
    rows: Sequence[Row]
    problem: str = ""
    rounds: Sequence[Mapping[str, Any]] = ()
    log: str = ""

    @property
    def apart(self) -> Path | None:
        """The run's folder, where it is not the one that its recipe's commands take by themselves."""
        return None if self.path == Path("runs") / Path(self.recipe).stem else self.path

    def to_json(self) -> dict[str, Any]:
        head = {"run": str(self.path), "recipe": self.recipe, "problem": self.problem, "log": self.log}
        return {**head, "stages": [row.to_json() for row in self.rows], "rounds": list(self.rounds)}


def collect(recipe: Path | None, run_dir: Path | None, overrides: Sequence[str]) -> list[Overview]:
    """Return the overview of one recipe's run, of one run folder, or of every run in runs/.

    Raises:
        InputError: there is no run at all, or no such folder.
    """
    if recipe is not None:
        return [_overview(recipe, run_dir, overrides)]
    if run_dir is not None and not run_dir.is_dir():
        raise InputError(f"{run_dir}: no such folder of a run", "Without --run-dir, all runs in runs/ are listed.")
    folders = [run_dir] if run_dir is not None else sorted(path.parent for path in Path("runs").glob("*/lock"))
    found = [_of_folder(folder) for folder in folders]
    if not found:
        raise InputError("there is no run in runs/", "Start one: tuner run RECIPE (tuner new writes a recipe).")
    return found


def _of_folder(folder: Path) -> Overview:
    recorded = []
    for path in sorted(folder.glob("*/manifest.json")):
        with contextlib.suppress(InputError):  # its step is shown as corrupt
            manifest = read_json(path)
            if isinstance(log := manifest.get("made_from"), dict):
                return Overview(folder, "", _all_finished(folder), log=str(log.get("log")))
            recorded.append(str(manifest.get("recipe", "")))
    if not recorded:
        return Overview(folder, "", [], "no step has finished")
    try:
        return _overview(Path(recorded[-1]), folder, ())
    except TunerError as error:
        return Overview(folder, recorded[-1], _all_finished(folder), error.message)


def _all_finished(folder: Path) -> list[Row]:
    return [_finished(folder, name) for name in stages.NAMES if (folder / name / "manifest.json").exists()]


def _overview(recipe: Path, run_dir: Path | None, overrides: Sequence[str]) -> Overview:
    session = Session(
        recipe, load_recipe(recipe, overrides, settings=stages.settings_models()), Options(run_dir=run_dir)
    )
    begun = rounds.read_rounds(session.run.path)
    last = stages.named("on_test_split")
    refs = [StageRef(name) for name in stages.NAMES if name not in last]
    for item in begun:
        refs += rounds.stages_of(session.run.path, item["round"])
    rows = [_row(session, ref) for ref in [*refs, *map(StageRef, last)]]
    return Overview(session.run.path, str(recipe), rows, rounds=begun)


def _row(session: Session, ref: StageRef) -> Row:
    try:
        state = session.state(ref)
    except InputError as error:
        return Row(ref, "corrupt", [error.message])
    manifest = state.manifest or {}
    when = "" if state.result is None else str(manifest.get("finished_at", ""))
    return Row(ref, state.kind, _reasons(state, str(manifest.get("command", ""))), when, state.result)


def _reasons(state: State, command: str) -> list[str]:
    """Return why a stage is stale; first the command that made it, where that had overrides of its own."""
    overridden = state.reasons and any(option in command for option in ("--set", "--seed"))
    made = [f"made by: {clipped(command, 200)}"] if overridden else []
    return [*made, *map(str, state.reasons)]


def _finished(folder: Path, name: str) -> Row:
    try:
        result = stages.read_result(folder / name / "result.json")
    except InputError as error:
        return Row(StageRef(name), "corrupt", [error.message])
    return Row(StageRef(name), "finished", (), "", result)
