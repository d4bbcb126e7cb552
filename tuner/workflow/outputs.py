"""What a stage leaves behind when it has been judged; the manifest comes last."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

import tuner
from tuner import stages
from tuner.core.errors import InputError
from tuner.core.formatting import shown
from tuner.core.manifest import output_hashes, read_manifest, verify_outputs
from tuner.core.result import Record, StageResult
from tuner.core.stage_ref import StageRef
from tuner.core.store import RunDir, read_json, write_json
from tuner.recipe import user_files
from tuner.workflow import rounds
from tuner.workflow.best_so_far import STAGE_FOLDER, BestSoFar, so_far
from tuner.workflow.freshness import Session

PACKAGES = ("torch", "torchvision", "numpy", "optuna", "pandas", "scikit-learn")


def finalists(result: StageResult[Any]) -> set[str]:
    """Return the ids of the trials whose weights stay: the finalists, the chosen one, and what is averaged with it."""
    kept = {entry.trial for entry in getattr(result.metrics, "finalists", ())} | {result.choice.get("trial")}
    kept |= set(result.choice.get("members", ()))
    return {str(trial) for trial in kept if trial}


def write_stage(
    session: Session,
    ref: StageRef,
    records: Sequence[Record],
    result: StageResult[Any],
    made: Mapping[str, Any],
    note: Callable[[str], None],
) -> None:
    """Write the stage's records, result and manifest; `made`: device and clock; `note` tells the user."""
    folder, traits = ref.folder(session.run), stages.traits(ref.stage)
    if records:
        folder.rewrite(records)
    if (best := BestSoFar.of(session.run, ref)) is not None:
        best.end(result)  # before the weights of the others are gone
    folder.keep_checkpoints(finalists(result))
    write_json(folder.result_path, result.to_json())
    user_files.copy_user_files(session.user_modules, session.run.path / "user")
    if traits.on_test_split:
        log_look(session.run, session.options.command, result, made["began_at"])
    manifest = {
        "schema": 1,
        "stage": ref.stage,
        "round": ref.round,
        "recipe": str(session.recipe_path),
        **vars(session.provenance(ref)),
        "seed": session.recipe.seed,
        "changes": [] if ref.round == 1 else rounds.entry(session.run.path, ref.round)["changes"],
        "outputs": output_hashes(folder),
        "versions": versions(),
        "command": session.options.command,
        "forced": session.options.force,
        "allowed_stale": session.options.allow_stale,
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%S"),
        **made,
    }
    write_json(folder.manifest_path, manifest)
    write_winner(session, ref, result, records, note)


def write_winner(
    session: Session,
    ref: StageRef,
    result: StageResult[Any],
    records: Sequence[Record],
    note: Callable[[str], None],
) -> None:
    """Write `winner.json` where a finished stage of round 1 names one: its own, or the latest kept round's.

    Its weights are among the stage's outputs by now. A round was kept against an earlier result; one that is stale now,
    or no better any more, wins no longer.
    """
    if not stages.traits(ref.stage).writes_winner or not result.choice.get("checkpoint") or ref.round > 1:
        return
    run, winner = session.run, rounds.winner(result, ref.round)
    for entry in reversed([entry for entry in rounds.read_rounds(run.path) if entry["kept"]]):
        number = entry["round"]
        kept_ref = StageRef(ref.stage, number)
        if not _is_fresh(session, kept_ref):
            note(f"round {number} was kept, and is not fresh any more: its winner is not taken")
            continue
        folder = kept_ref.folder(run)
        later = stages.read_result(folder.result_path)
        kept, why = rounds.compare(result, later, records, folder.records())
        if kept:
            note(f"the winner is still that of round {number}: {why}")
            winner = rounds.winner(later, number)
            break
        note(f"round {number} is not kept any more: {why}")
        rounds.store_entry(run.path, {**entry, "kept": False, "why": why})
    write_json(run.winner_path, winner)


def _is_fresh(session: Session, ref: StageRef) -> bool:
    try:
        return session.state(ref).kind == "fresh"
    except InputError:  # damaged
        return False


def versions() -> dict[str, str]:
    """Return the versions that a result may depend on, without importing the packages."""
    found = {"tuner": tuner.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def winner_of(run: RunDir) -> dict[str, Any]:
    """Return `winner.json`.

    Raises:
        InputError: it is missing, names a checkpoint that no stage wrote, or the checkpoint was changed.
    """
    winner = run.winner()
    label, _, rest = winner["checkpoint"].partition("/")
    manifest = read_manifest(run.stage(label)) if STAGE_FOLDER.fullmatch(label) else None
    if manifest is None and so_far(run) is not None:
        return winner
    if manifest is None or rest not in manifest["outputs"]:
        raise InputError(
            f"{run.winner_path} names a checkpoint that no stage wrote: {shown(winner['checkpoint'])}",
            "Run fine again with --fresh.",
        )
    verify_outputs(run.stage(label), manifest, [rest])
    return winner


def looks(run: RunDir) -> list[dict[str, Any]]:
    """Return every look at the test split so far: when, by which command, and what it showed."""
    path = run.path / "test-looks.json"
    hint = "It is the record of the looks at the test split: restore it, or move it away to begin a new one."
    if not path.exists():
        return []
    entries = read_json(path, list, hint)
    if not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path}: not what tuner wrote (each entry is an object)", hint)
    return entries


def log_look(run: RunDir, command: str, result: StageResult[Any], began_at: float) -> None:
    """Record that the test split was looked at; a look that was killed after that, and went on, is one."""
    known = looks(run)
    if any(entry.get("began_at") == began_at for entry in known):
        return
    entry = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "command": command,
        "accuracy": result.metrics.accuracy,
        "began_at": began_at,
    }
    write_json(run.path / "test-looks.json", [*known, entry])
