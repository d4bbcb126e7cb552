"""The winner of a run: its trial, its weights, and the folder that its user files are in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import stages
from tuner.core.errors import InputError
from tuner.core.manifest import read_manifest
from tuner.core.result import Record, last_of_each
from tuner.core.store import RunDir
from tuner.workflow.outputs import winner_of

if TYPE_CHECKING:
    from tuner.execute.in_process import Winner


@dataclass(frozen=True)
class WinnerFiles:
    """`record`: the winning trial. `checkpoint`: its weights. `recipe_path`: the recipe that the run was made from."""

    record: Record
    checkpoint: Path
    user_dir: Path
    recipe_path: Path

    @property
    def code_dir(self) -> Path:
        """The folder that `file.py:function` starts from: the copies in the run, which are the files as run."""
        files = self.record.item.spec.user_files
        whole = bool(files) and not any(name.startswith("..") for name in files)
        return self.user_dir if whole else self.recipe_path.parent


def find_winner(path: Path) -> WinnerFiles:
    """Return the winner of the run in the folder `path`.

    Raises:
        InputError: there is none yet, its weights were changed, or its trial is not among its stage's.
    """
    run = RunDir(path)
    if not run.winner_path.exists():
        raise InputError(f"{path} has no winner yet", "Run `tuner fine` first: it names one.")
    winner = winner_of(run)
    stage = run.stage(str(winner["checkpoint"]).partition("/")[0])
    record = next((r for r in last_of_each(stage.records()) if r.result.id == winner.get("trial")), None)
    if record is None:
        raise InputError(f"{run.winner_path} names a trial that {stage.label} does not have: {winner.get('trial')!r}")
    manifest = read_manifest(stage) or {}
    recipe = Path(str(manifest.get("recipe", "recipe.toml")))
    return WinnerFiles(record, path / winner["checkpoint"], path / "user", recipe)


def load_winner(path: Path) -> Winner:
    """Return the winner's model with its preprocessing, in eval mode, on the CPU."""
    from tuner.execute.in_process import load_winner

    found = find_winner(path)
    return load_winner(found.record.item.spec, found.checkpoint, found.code_dir.resolve())


def task_of(found: WinnerFiles) -> str:
    """Return the name of the run's task: the recipe's, else what the first stage read from the targets."""
    named = found.record.item.spec.tables["data"].get("task")
    first = found.user_dir.parent / stages.NAMES[0] / "result.json"
    return str(named or (stages.read_result(first).metrics.task if first.is_file() else "classification"))


def about(found: WinnerFiles, name: str) -> dict[str, Any]:
    """Return what an exported winner says of where it comes from."""
    spec, result = found.record.item.spec, found.record.result
    return {
        "task": task_of(found),
        "run": name,
        "trial": result.id,
        "epoch": result.best_epoch,
        "monitor": spec.tables["train"].get("monitor", "val_accuracy"),
        "score": found.record.measured_score,
        "model": spec.tables["model"],
        "params": dict(spec.overrides),
    }
