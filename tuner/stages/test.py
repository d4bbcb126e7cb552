"""What is the generalisation error, on the test split that no step before has been handed?"""

from __future__ import annotations

from tuner.stages import StageSettings

STEP = "end"
TITLE = "test"
NEEDS = ("fine",)
DEPENDS = ("data", "model", "loss", "train")


class Settings(StageSettings):
    """Nothing to set."""
