"""What do the train and val curves say: train longer, regularise, grow, lower the rate?"""

from __future__ import annotations

from pydantic import Field

from tuner.stages import StageSettings

STEP = "6"
TITLE = "diagnosis"
NEEDS = ("fine",)
DEPENDS = ("data", "model", "loss", "optimizer", "schedule", "train")


class Settings(StageSettings):
    """What the diagnosis measures against."""

    target: float = Field(0.95, gt=0, le=1, description="train accuracy below which a model without a gap underfits")
