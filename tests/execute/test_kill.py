"""kill -9 at any moment: the same command goes on, and what comes out is equal to a run that nobody disturbed."""

import shutil
import subprocess
import sys

import pytest

from tests import killing
from tests.conftest import RECIPE
from tests.equal import differences

QUICK = RECIPE.replace("trials = 2\nepochs = 2", "trials = 4\nepochs = 4").replace("epochs = 3\n", "epochs = 8\n")
STAGE = ("--workers", "2", "--quiet")


def run(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "tuner", *arguments], cwd=folder, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A folder whose run has steps 1 to 5 done, and one that stops before the search."""
    whole, begun = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("begun")
    (whole / "small.toml").write_text(QUICK)
    run(whole, "run", "small.toml", "--through", "lr-sweep", *STAGE)
    shutil.copytree(whole, begun, dirs_exist_ok=True)
    run(whole, "run", "small.toml", "--through", "fine", *STAGE)
    return whole, begun


def test_a_search_that_is_killed_again_and_again_gives_an_equal_run(undisturbed, tmp_path):
    whole, begun = undisturbed
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    kills = killing.ends_despite(
        tmp_path, ("run", "small.toml", "--through", "fine", *STAGE), kills=4, seed=1, patience=0.8
    )
    assert kills.total() == 4
    assert differences(whole / "runs/small", tmp_path / "runs/small") == []
    left = [path.name for path in (tmp_path / "runs").rglob("*") if ".tmp" in path.name or ".state" in path.name]
    assert left == []


def test_a_run_with_one_worker_is_equal_to_a_run_with_two(undisturbed, tmp_path):
    whole, _ = undisturbed
    (tmp_path / "small.toml").write_text(QUICK)
    run(tmp_path, "run", "small.toml", "--workers", "1", "--quiet")
    run(whole, "run", "small.toml", *STAGE)
    for folder in (whole, tmp_path):
        run(folder, "test", "small.toml", "--workers", "1", "--quiet")
    assert differences(whole / "runs/small", tmp_path / "runs/small") == []
