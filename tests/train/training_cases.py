"""A small trial in a folder: the user's file with its data, and the tables that name it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.core.result import TrialResult
from tuner.core.trial import TrialEnv, TrialSpec, WorkItem, apply_overrides
from tuner.recipe.model import Recipe
from tuner.train.setup import Setup, make_setup
from tuner.train.trial import run_trial

DATA = """
import torch
from torch import nn

def load(train=40, val=20, features=4, classes=3):
    generator = torch.Generator().manual_seed(5)
    centres = torch.randn(classes, features, generator=generator)
    def draw(n):
        targets = torch.arange(n) % classes
        return centres[targets] + 0.8 * torch.randn(n, features, generator=generator), targets
    return draw(train), draw(val)

def images(train=24, val=12):
    generator = torch.Generator().manual_seed(6)
    def draw(n):
        return torch.randint(0, 256, (n, 3, 8, 8), dtype=torch.uint8, generator=generator), torch.arange(n) % 3
    return draw(train), draw(val)
"""

ROWS = """
class Rows(torch.utils.data.Dataset):
    def __init__(self, pair):
        self.pair = pair
    def __len__(self):
        return len(self.pair[1])
    def __getitem__(self, i):
        return self.pair[0][i], int(self.pair[1][i])

def streamed():
    train, val = load()
    return Rows(train), Rows(val)
"""

NORM_NET = """
def net(input_shape, num_classes):
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, num_classes))
"""


@dataclass(frozen=True)
class Case:
    """A folder with `mine.py`, and the trials in it."""

    folder: Path
    tables: Mapping[str, Any]

    @property
    def stage_dir(self) -> Path:
        return self.folder / "stage"

    @property
    def env(self) -> TrialEnv:
        return TrialEnv(self.folder, self.stage_dir, "cpu", self.folder / "cache")

    def spec(self, seed: int = 0, **fields: Any) -> TrialSpec:
        fields.setdefault("horizon_epochs", None if "horizon_steps" in fields else 2)
        return TrialSpec(self.tables, {}, seed, **fields)

    def setup(self, **fields: Any) -> Setup:
        return make_setup(self.spec(**fields), self.env)

    def run(self, until: int | None = None, on_progress: Any = None, **fields: Any) -> TrialResult:
        return run_trial(WorkItem(self.spec(**fields), 3, until), self.env, on_progress)


def make_case(folder: Path, code: str = "", overrides: Mapping[str, Any] = {}) -> Case:
    """Write the user's file and give the case; `overrides`: dotted key -> value of the recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.py").write_text(DATA + code)
    raw = {
        "name": "case",
        "data": {"source": "mine.py:load"},
        "model": {"name": "mlp", "width": 6, "depth": 1},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "train": {"batch_size": 8},
    }
    return Case(folder, Recipe.model_validate(apply_overrides(raw, overrides)).tables())


def without_clock(result: TrialResult) -> dict[str, Any]:
    """The result as JSON but for what may differ between equal runs."""
    value = result.to_json()
    for key in ("wall_seconds", "peak_memory_bytes", "started_at", "worker", "until_epoch"):
        value.pop(key)
    return value
