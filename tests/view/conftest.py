"""The run that the tests of the view read: the finished run, searched again with three keys and a few more trials."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import RECIPE, tuner

SEARCHED = """
[search]
"optimizer.lr" = "auto"
"optimizer.weight_decay" = { low = 1e-6, high = 1e-2, log = true }
"model.width" = { choices = [16, 32] }

[stages.coarse]
trials = 12
epochs = 3

[stages.fine]
trials = 4
epochs = 6
finalists = 2
seeds = 3
"""


@dataclass(frozen=True)
class Searched:
    """A run's folder, and what was warned of while its plots were drawn."""

    path: Path
    warned: tuple[str, ...]


@pytest.fixture(scope="session")
def searched(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """Carry out the search once; tests must not change the run."""
    folder = tmp_path_factory.mktemp("searched") / "run"
    shutil.copytree(finished_run, folder)
    (folder / "small.toml").write_text(RECIPE[: RECIPE.index("[stages.coarse]")] + SEARCHED)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for command in (("run", "small.toml"), ("test", "small.toml", "--force")):
            done = tuner(*command, "--workers", "0", cwd=folder)
            assert done.code == 0, done.out + done.err
    drawing = [found for found in caught if {"matplotlib", "view"} & set(Path(found.filename).parts)]
    return Searched(folder / "runs" / "small", tuple(f"{found.filename}: {found.message}" for found in drawing))


@pytest.fixture(scope="session")
def run_dir(searched: Searched) -> Path:
    """The folder of the run, with every stage's artifacts."""
    return searched.path
