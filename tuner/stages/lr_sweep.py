"""Which learning rates make the loss fall clearly within 100 iterations?"""

from __future__ import annotations

from pydantic import Field

from tuner.stages import StageSettings

STEP = "3"
TITLE = "learning-rate sweep"
NEEDS = ("overfit",)
DEPENDS = ("data", "model", "loss", "optimizer", "train")


class Settings(StageSettings):
    """How the rates are tried."""

    low: float = Field(1e-4, gt=0, description="lowest rate of the first generation")
    high: float = Field(1e-1, gt=0, description="highest rate of the first generation")
    steps: int = Field(100, ge=20, description="iterations per rate and seed")
    seeds: int = Field(3, ge=1, description="seeds per rate")
    floor: float = Field(1e-7, gt=0, description="the range is never extended below this rate")
    ceiling: float = Field(10.0, gt=0, description="the range is never extended above this rate")
