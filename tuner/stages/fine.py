"""Around the best of coarse, 10-20 epochs each: which configuration wins, and by more than noise?"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tuner.stages import StageSettings

STEP = "5"
TITLE = "fine search"
NEEDS = ("coarse", "lr-sweep")
DEPENDS = ("data", "model", "loss", "optimizer", "schedule", "train", "search")


class Settings(StageSettings):
    """How many configurations, how long, and how the winner is confirmed."""

    trials: int = Field(8, ge=1, description="configurations to try")
    epochs: int = Field(15, ge=1, description="epochs per configuration")
    sampler: Literal["sobol", "random", "grid"] = Field("sobol", description="how configurations are chosen")
    carried: int = Field(3, ge=1, description="best configurations of coarse that are tried again unchanged")
    finalists: int = Field(2, ge=1, description="configurations that are trained again with new seeds")
    seeds: int = Field(3, ge=1, description="seeds per finalist, the first one included")
