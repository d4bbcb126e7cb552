"""The log of a training that tuner never saw, judged by the rules of step 6, as a value or as a run of its own."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tuner.api.log_reading import curve_of, read_log
from tuner.api.report import Report
from tuner.core.errors import InputError
from tuner.core.manifest import output_hashes, read_manifest
from tuner.core.metrics import FineMetrics
from tuner.core.result import Record, Skipped, StageResult, TrialResult
from tuner.core.stage_ref import StageRef
from tuner.core.store import RunDir, StageDir, sha256, write_curve, write_json
from tuner.core.trial import TrialSpec, WorkItem
from tuner.recipe.model import Recipe
from tuner.stages import Inputs, load, only, read_result, settings_of
from tuner.workflow.drawing import draw_plots
from tuner.workflow.outputs import versions

RUNNING = Skipped(
    "the gap on a train subset in eval mode",
    "a log has train metrics as they were while training, with dropout and augmentation: they stand in for it",
)


def judged(
    curve: Sequence[Mapping[str, Any]],
    batch: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Report:
    """Judge a curve as step 6 does, without confirming runs.

    `batch`: tables of a recipe that are known (the optimizer's name and rate). `settings`: of step 6.
    """
    recipe, record = _as_trial(curve, batch or {})
    return Report((_judged(recipe, record, settings or {}),))


def _as_trial(curve: Sequence[Mapping[str, Any]], known: Mapping[str, Any]) -> tuple[Recipe, Record]:
    """Return the recipe and the trial that stand for the training whose curve this is."""
    train = [row for row in curve if row["split"] == "train"]
    val = [row for row in curve if row["split"] == "val"]
    recipe = Recipe.model_validate({"name": "log", "data": {"source": "log"}, "model": {"name": "log"}, **known})
    spec = TrialSpec(tables=recipe.tables(), overrides={}, seed=0, horizon_epochs=max(len(train), len(val), 1))
    status = "completed" if all(math.isfinite(row["loss"]) for row in train) else "diverged"
    rows = [*curve, *({**row, "split": "train_eval"} for row in train)] if val else list(curve)
    result = TrialResult(spec.id, None, status, rows, score=None, best_epoch=_best(val))  # type: ignore[arg-type]
    return recipe, Record(WorkItem(spec, 0), result)


def _judged(recipe: Recipe, record: Record, settings: Mapping[str, Any]) -> StageResult[Any]:
    stage = only("judges_logs")
    module = load(stage)
    trial = record.result.id
    inputs = Inputs(
        results={"fine": StageResult("fine", "", FineMetrics(), choice={"trial": trial})}, trials={"fine": [record]}
    )
    result = module.judge(recipe, inputs, settings_of(stage, {**settings, "confirm": False}), [])
    metrics = replace(result.metrics, curves_stage=stage)
    return replace(result, metrics=metrics, skipped=[*result.skipped, RUNNING])


def _best(val: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the epoch with the best accuracy, with the lowest loss where the log has none."""
    if scored := [row for row in val if "accuracy" in row]:
        return int(max(scored, key=lambda row: row["accuracy"])["epoch"])
    finite = [row for row in val if math.isfinite(row["loss"])]
    return int(min(finite, key=lambda row: row["loss"])["epoch"]) if finite else None


@dataclass(frozen=True)
class LogRun:
    """What judging a log gave: its result, the stage and the folder where it lies, and whether it was made now."""

    ref: StageRef
    result: StageResult[Any]
    run: Path
    ran: bool


def diagnose_log(
    path: Path,
    run_dir: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    command: str = "",
    fresh: bool = False,
) -> LogRun:
    """Judge a log as step 6 does, and keep it as a run: `run_dir`, or runs/<name of the log>.

    A log that has not changed since, with the same settings, is not judged again, unless `fresh`.

    Raises:
        InputError: the log cannot be read; the folder belongs to a recipe or to another log.
        UsageError: no column of the log is a loss; a setting is not allowed.
    """
    run, ref = RunDir(run_dir or Path("runs") / path.stem), StageRef(only("judges_logs"))
    folder = ref.folder(run)
    chosen = settings_of(ref.stage, {**(settings or {}), "confirm": False})
    rows = read_log(path)
    made_from = {"log": str(path.resolve()), "sha256": sha256(path), "settings": chosen.model_dump(mode="json")}
    with run.locked(command):
        before = _made_before(run, folder)
        if before is not None and before["log"] != made_from["log"]:
            raise InputError(
                f"{run.path} has the diagnosis of another log, {before['log']}", "Choose another folder with --run-dir."
            )
        if before == made_from and not fresh:
            return LogRun(ref, read_result(folder.result_path), run.path, ran=False)
        recipe, record = _as_trial(curve_of(rows), {})
        _write(folder, ref, recipe, record, made_from, command)
    return LogRun(ref, read_result(folder.result_path), run.path, ran=True)


def _made_before(run: RunDir, folder: StageDir) -> dict[str, Any] | None:
    """Return what the diagnosis in a folder was made from; None where there is none.

    Raises:
        InputError: the folder belongs to a recipe.
    """
    for stage in sorted(entry for entry in run.path.iterdir() if (entry / "manifest.json").is_file()):
        manifest = read_manifest(StageDir(stage)) or {}
        if "made_from" not in manifest:
            raise InputError(
                f"{run.path} has a run of the recipe {manifest.get('recipe')}", "Choose another folder with --run-dir."
            )
        if stage == folder.path:
            return dict(manifest["made_from"])
    return None


def _write(
    folder: StageDir, ref: StageRef, recipe: Recipe, record: Record, made_from: Mapping[str, Any], command: str
) -> None:
    """Write what a stage leaves behind, the manifest last."""
    began = time.monotonic()
    folder.begin(recipe.model_dump(mode="json"))
    logged = [row for row in record.result.curve if row["split"] != "train_eval"]
    write_curve(
        folder.path / "curves" / f"{record.result.id}.csv",
        replace(record, result=replace(record.result, curve=logged)),
    )
    result = _judged(recipe, record, made_from["settings"])
    write_json(folder.result_path, result.to_json())
    draw_plots(result, folder, lambda text: None)
    manifest = {
        "schema": 1,
        "stage": ref.stage,
        "round": ref.round,
        "recipe": "",
        "made_from": made_from,
        "tables": {},
        "stage_table": {},
        "user_files": {},
        "inputs": {},
        "settings": made_from["settings"],
        "outputs": output_hashes(folder),
        "versions": versions(),
        "command": command,
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "wall_seconds": time.monotonic() - began,
    }
    write_json(folder.manifest_path, manifest)
