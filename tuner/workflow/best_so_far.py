"""`winner.json` while a search is under way: the best trial that has ended, so that there is always a model to test.

It has `so_far` (the stage that it is of) and its `score`, until the search that names the winner writes its own. A
winner that a finished search has named is never replaced by one of these.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
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
    """Keeps `winner.json` at the best trial of round 1 that has ended."""

    run: RunDir
    ref: StageRef
    score: float = -math.inf

    @classmethod
    def of(cls, run: RunDir, ref: StageRef) -> BestSoFar | None:
        """Return it for a search of round 1; None where a finished search has named the winner."""
        if not stages.traits(ref.stage).searches or ref.round != 1:
            return None
        known = so_far(run)
        if known is None and run.winner_path.exists() and _is_final(run):
            return None
        return cls(run, ref, float((known or {}).get("score", -math.inf)))

    def hear(self, record: Record) -> None:
        """Take in a trial, or a rung of one, that has ended."""
        score = record.result.score
        if score is None or not score > self.score or record.result.status not in ("completed", "stopped"):
            return
        if self.ref.folder(self.run).checkpoint(record.result.id).exists():
            self.score = score
            self._write(record.result.id, record.params, score)

    def end(self, result: StageResult[Any]) -> None:
        """Take the trial that the search itself calls its best, whose weights stay."""
        trial, top = result.choice.get("trial"), result.choice.get("top") or [{}]
        if trial and self.ref.folder(self.run).checkpoint(trial).exists():
            self._write(trial, top[0].get("params", {}), top[0].get("score"))

    def _write(self, trial: str, params: Mapping[str, Any], score: float | None) -> None:
        checkpoint = f"{self.ref.label}/checkpoints/{trial}.pt"
        found = {"round": 1, "trial": trial, "checkpoint": checkpoint, "params": dict(params)}
        write_json(self.run.winner_path, {**found, "score": score, "so_far": self.ref.label})


def _is_final(run: RunDir) -> bool:
    try:
        return not run.winner().get("so_far")
    except InputError:
        return True  # damaged: what reads it reports it
