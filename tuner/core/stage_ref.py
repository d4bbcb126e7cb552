"""The name of a piece of work: one stage of one round."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from tuner.core.store import RunDir, StageDir

_LABEL = re.compile(r"(?P<stage>.+?)(?:-(?P<round>[1-9]\d*))?")


@dataclass(frozen=True)
class StageRef:
    """A stage in a round of step 7; round 1 is the user's recipe.

    Which round a stage's inputs come from follows from `rounds.json` and `winner.json`: `workflow.rounds.Rounds`.
    """

    stage: str
    round: int = 1

    @classmethod
    def parse(cls, label: str) -> StageRef:
        """Return the stage and round of a folder's name: `fine-2` is fine in round 2, `fine` in round 1."""
        found = _LABEL.fullmatch(label)
        if found is None:
            return cls(label)
        return cls(found["stage"], int(found["round"] or 1))

    @property
    def label(self) -> str:
        """The name of its folder in a run: `fine`, in round 2 `fine-2`."""
        return self.stage if self.round == 1 else f"{self.stage}-{self.round}"

    def __str__(self) -> str:
        return self.label

    def folder(self, run: RunDir) -> StageDir:
        """Return its folder in a run."""
        return run.stage(self.label)

    def other(self, stage: str) -> StageRef:
        """Return another stage of the same round."""
        return replace(self, stage=stage)
