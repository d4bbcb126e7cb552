"""Where every step of a run stands, read from its artifacts: what `tuner status` and `tuner report` show."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tuner import stages
from tuner.core.errors import InputError, TunerError
from tuner.core.store import read_json, read_result
from tuner.recipe.file import load_recipe
from tuner.workflow import rounds
from tuner.workflow.freshness import Options, Session, State


@dataclass(frozen=True)
class Row:
    """One step: its state (fresh, stale, missing, interrupted, corrupt, finished), why, and its result."""

    stage: str
    label: str
    round: int
    state: str
    reasons: Sequence[str] = ()
    verdict: str | None = None
    headline: str = ""
    when: str = ""
    result: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Overview:
    """One run: its folder, its recipe and its rows. `problem` says why the recipe cannot be read, where it cannot."""

    path: Path
    recipe: str
    rows: Sequence[Row]
    problem: str = ""
    rounds: Sequence[Mapping[str, Any]] = ()

    def to_json(self) -> dict[str, Any]:
        rows = [{key: value for key, value in asdict(row).items() if key != "result"} for row in self.rows]
        head = {"run": str(self.path), "recipe": self.recipe, "problem": self.problem}
        return {**head, "stages": rows, "rounds": list(self.rounds)}


def collect(recipe: Path | None, run_dir: Path | None, overrides: Sequence[str]) -> list[Overview]:
    """Return the overview of one recipe's run, of one run folder, or of every run in runs/.

    Raises:
        InputError: there is no run at all.
    """
    if recipe is not None:
        return [_overview(recipe, run_dir, overrides)]
    folders = [run_dir] if run_dir is not None else sorted(path.parent for path in Path("runs").glob("*/lock"))
    found = [_of_folder(folder) for folder in folders]
    if not found:
        raise InputError("there is no run in runs/", "Start one: tuner run RECIPE (tuner new writes a recipe).")
    return found


def _of_folder(folder: Path) -> Overview:
    recorded = []
    for path in sorted(folder.glob("*/manifest.json")):
        with contextlib.suppress(InputError):  # its step is shown as corrupt
            recorded.append(read_json(path).get("recipe", ""))
    if not recorded:
        return Overview(folder, "", [], "no step has finished")
    try:
        return _overview(Path(recorded[-1]), folder, ())
    except TunerError as error:
        rows = [_finished(folder, name) for name in stages.NAMES if (folder / name / "manifest.json").exists()]
        return Overview(folder, recorded[-1], rows, error.message)


def _overview(recipe: Path, run_dir: Path | None, overrides: Sequence[str]) -> Overview:
    session = Session(
        recipe, load_recipe(recipe, overrides, settings=stages.settings_models()), Options(run_dir=run_dir)
    )
    begun = rounds.read_rounds(session.run.path)
    numbers = [1, *(item["round"] for item in begun)]
    rows = []
    for number in numbers:
        names = stages.NAMES[:-1] if number == 1 else rounds.stages_of(session.run.path, number)
        rows += [_row(session, name, number) for name in names]
    return Overview(session.run.path, str(recipe), [*rows, _row(session, "test", 1)], rounds=begun)


def _row(session: Session, name: str, number: int) -> Row:
    label = rounds.folder_name(name, number)
    try:
        state = session.state(name, number)
    except InputError as error:
        return Row(name, label, number, "corrupt", [error.message])
    return _row_of(state, name, number)


def _row_of(state: State, name: str, number: int) -> Row:
    reasons = [str(reason) for reason in state.reasons]
    if state.result is None:
        return Row(name, state.label, number, state.kind, reasons)
    when = str((state.manifest or {}).get("finished_at", ""))
    return Row(
        name,
        state.label,
        number,
        state.kind,
        reasons,
        state.result["verdict"],
        state.result["headline"],
        when,
        state.result,
    )


def _finished(folder: Path, name: str) -> Row:
    try:
        result = read_result(folder / name / "result.json")
    except InputError as error:
        return Row(name, name, 1, "corrupt", [error.message])
    return Row(name, name, 1, "finished", (), result["verdict"], result["headline"], "", result)
