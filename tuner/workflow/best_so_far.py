"""`winner.json` while a search is under way: the best trial so far, so that there is always a model to test.

It is the best of those that have ended and, where that is better already, of those that train. It has `so_far` (the
stage that it is of) and its `score`, until the search that names the winner writes its own; one that trains has
`trained_epochs` of `epochs` as well. A winner that a finished search has named is never replaced by one of these.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner import stages
from tuner.core.errors import InputError
from tuner.core.result import Record, StageResult
from tuner.core.stage_ref import StageRef
from tuner.core.store import RunDir, write_json

STAGE_FOLDER = re.compile(r"[a-z][a-z-]*(-\d+)?")


def so_far(run: RunDir) -> dict[str, Any] | None:
    """Return `winner.json` where it is of a search that has not ended, and its weights are there."""
    try:
        winner = run.winner()
    except InputError:
        return None
    label, _, name = winner["checkpoint"].partition("/")
    there = STAGE_FOLDER.fullmatch(label) is not None and (run.stage(label).path / name).is_file()
    return winner if winner.get("so_far") and there else None


@dataclass
class BestSoFar:
    """Keeps `winner.json` at the best trial of round 1 so far; `score`: what trials are ranked by, larger is better."""

    run: RunDir
    ref: StageRef
    score: float = -math.inf
    trial: str = ""

    @classmethod
    def of(cls, run: RunDir, ref: StageRef) -> BestSoFar | None:
        """Return it for a search of round 1; None where a finished search has named the winner."""
        if not stages.traits(ref.stage).searches or ref.round != 1:
            return None
        known = so_far(run)
        if known is None and run.winner_path.exists() and _is_final(run):
            return None
        if known is None:
            return cls(run, ref)
        rank = known.get("rank")
        return cls(run, ref, rank if isinstance(rank, (int, float)) else -math.inf, str(known["trial"]))

    def hear(self, record: Record) -> None:
        """Take in a trial, or a rung of one, that has ended."""
        score, folder = record.result.score, self.ref.folder(self.run)
        if score is None or record.result.status not in ("completed", "stopped"):
            return
        of_same = record.result.id == self.trial  # what its process wrote last replaces what it wrote on the way
        if (score > self.score or (of_same and score >= self.score)) and folder.checkpoint(record.result.id).exists():
            self._take(record, folder.checkpoint(record.result.id), {})

    def hear_on_the_way(self, record: Record) -> None:
        """Take in a trial that trains: up to the last epoch of its record, with the best weights written so far."""
        score, path = record.result.score, self.ref.folder(self.run).so_far(record.result.id)
        if score is not None and score > self.score and path.exists():
            horizon = record.item.spec.horizon_epochs
            self._take(record, path, {"trained_epochs": record.item.until_epoch, "epochs": horizon})

    def end(self, result: StageResult[Any]) -> None:
        """Take the trial that the search itself calls its best, whose weights stay."""
        trial, top = result.choice.get("trial"), result.choice.get("top") or [{}]
        path = self.ref.folder(self.run).checkpoint(str(trial))
        if trial and path.exists():
            params = top[0].get("params", result.choice.get("params", {}))
            rank = self.score if math.isfinite(self.score) else None
            self._write(trial, path, params, {"score": top[0].get("score"), "rank": rank})

    def _take(self, record: Record, path: Path, more: Mapping[str, Any]) -> None:
        self.score, self.trial = float(record.result.score or 0.0), record.result.id
        found = {"score": record.measured_score, "rank": self.score, **more}
        self._write(record.result.id, path, record.params, found)

    def _write(self, trial: str, path: Path, params: Mapping[str, Any], more: Mapping[str, Any]) -> None:
        checkpoint = f"{self.ref.label}/{path.relative_to(self.ref.folder(self.run).path).as_posix()}"
        found = {"round": 1, "trial": trial, "checkpoint": checkpoint, "params": dict(params)}
        write_json(self.run.winner_path, {**found, **more, "so_far": self.ref.label})


def _is_final(run: RunDir) -> bool:
    try:
        return not run.winner().get("so_far")
    except InputError:
        return True  # damaged: what reads it reports it
