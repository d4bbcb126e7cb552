"""Playing one case: the checklist's steps in order, as a user would run them, and a record of what each said."""

from __future__ import annotations

import shutil
import time
import traceback
from pathlib import Path
from typing import Any

from tests.zoo.case import STEPS, Case
from tests.zoo.recipe import write_folder
from tuner import stages
from tuner.core.errors import TunerError
from tuner.core.result import StageResult
from tuner.core.stage_ref import StageRef
from tuner.core.trial import Progress
from tuner.recipe.file import load_recipe
from tuner.workflow.accepted_codes import check_codes
from tuner.workflow.engine import Workflow
from tuner.workflow.options import Options

SHOWN = ("code", "cause", "severity", "confidence", "accepted", "title")


class Silent:
    """A listener that says nothing."""

    def start(self, title: str, total: int, done: int, epochs: Any = None) -> None: ...
    def update(self, progress: Progress) -> None: ...
    def finish(self, result: Any, number: int | None = None) -> None: ...
    def stop(self) -> None: ...
    def note(self, text: str) -> None: ...


def last_step(case: Case, through: str = STEPS[-1]) -> str:
    """Return the last step that a case is run through: a bug the one that is expected to find it, at the latest."""
    wanted = STEPS[-1] if case.healthy else case.step
    return min(wanted, through, key=STEPS.index)


def play(case: Case, seed: int, folder: Path, through: str = STEPS[-1]) -> list[dict[str, Any]]:
    """Run the case's steps in `folder`, which is made for it, and return one entry per step.

    A bug is run through the step that is expected to find it, a look-alike through diagnose, neither beyond `through`;
    both end at the first failed verdict or error. Steps run one trial after the other in this process.
    """
    shutil.rmtree(folder, ignore_errors=True)
    entries: list[dict[str, Any]] = []
    workflow: Workflow | None = None
    for name in STEPS[: STEPS.index(last_step(case, through)) + 1]:
        clock = time.perf_counter()
        entry: dict[str, Any] = {"step": name, "exit": 0, "verdict": None, "findings": []}
        try:
            if workflow is None:
                workflow = _workflow(case, seed, folder)
            result = workflow.run_stage(StageRef(name)).result
            entry |= _said(result)
            entry["exit"] = 1 if result.verdict == "fail" else 0
        except TunerError as error:
            entry |= {"exit": error.exit_code, "error": type(error).__name__, "message": error.message}
        except Exception as error:
            traceback.print_exc()
            entry |= {"exit": 70, "error": type(error).__name__, "message": traceback.format_exc()}
        entry["seconds"] = round(time.perf_counter() - clock, 3)
        entries.append(entry)
        if entry["exit"]:
            break
    return entries


def _workflow(case: Case, seed: int, folder: Path) -> Workflow:
    path = write_folder(case, folder)
    recipe = load_recipe(path, seed=seed, settings=stages.settings_models())
    check_codes(path, recipe)
    return Workflow(path, recipe, Options(run_dir=folder / "run", workers=0, device="cpu"), Silent())


def _said(result: StageResult[Any]) -> dict[str, Any]:
    findings = [{key: getattr(finding, key) for key in SHOWN} for finding in result.findings]
    skipped = [entry.check for entry in result.skipped]
    return {
        "verdict": result.verdict,
        "headline": result.headline,
        "findings": findings,
        "skipped": skipped,
    }
