"""Among many configurations, a few epochs each: which region is good?"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tuner.stages import StageSettings

STEP = "4"
TITLE = "coarse search"
NEEDS = ("lr-sweep",)
DEPENDS = ("data", "model", "loss", "optimizer", "schedule", "train", "search")


class Settings(StageSettings):
    """How many configurations, how long, and how they are chosen."""

    trials: int = Field(16, ge=1, description="configurations to try")
    epochs: int = Field(3, ge=1, description="epochs per configuration")
    sampler: Literal["sobol", "random", "grid"] = Field("sobol", description="how configurations are chosen")
    generation: int = Field(8, ge=1, description="configurations planned at once")
