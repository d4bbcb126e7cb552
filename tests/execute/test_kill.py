"""kill -9 at any moment: the same command goes on, and what comes out is equal to a run that nobody disturbed."""

import shutil
import subprocess
import sys

import pytest

from tests import killing
from tests.conftest import RECIPE, tuner
from tests.equal import differences
from tuner import stages

QUICK = RECIPE.replace("trials = 2\nepochs = 2", "trials = 4\nepochs = 4").replace("epochs = 3\n", "epochs = 8\n")


def begin(folder, *arguments):
    command = [sys.executable, "-m", "tuner", *arguments, "--quiet"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end(*processes):
    for process in processes:
        out, _ = process.communicate(timeout=100)
        assert process.returncode == 0, out


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A folder whose run has steps 1 to 5 done, and one that stops before the search."""
    whole, begun = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("begun")
    (whole / "small.toml").write_text(QUICK)
    for name in ("lr-sweep", "fine"):
        if name == "fine":
            shutil.copytree(whole, begun, dirs_exist_ok=True)
        done = tuner("run", "small.toml", "--through", name, "--workers", "0", cwd=whole)
        assert done.code == 0, done.out + done.err
    return whole, begun


def test_a_search_that_is_killed_again_and_again_gives_an_equal_run(undisturbed, tmp_path):
    whole, begun = undisturbed
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    kills = killing.ends_despite(
        tmp_path, ("run", "small.toml", "--through", "fine", "--workers", "2", "--quiet"), kills=3, seed=1, patience=0.8
    )
    assert kills.total() == 3
    assert differences(whole / "runs/small", tmp_path / "runs/small") == []
    left = [path.name for path in (tmp_path / "runs").rglob("*") if ".tmp" in path.name or ".state" in path.name]
    assert left == []


def test_a_run_with_two_workers_is_equal_to_one_in_this_process(finished_run, tmp_path):
    (tmp_path / "small.toml").write_text(RECIPE)
    for command in ("run", "test"):
        end(begin(tmp_path, command, "small.toml", "--workers", "2"))
    one, two = (folder / "runs/small" for folder in (finished_run, tmp_path))
    assert set(path.name for path in one.iterdir() if path.is_dir()) >= set(stages.NAMES)
    assert differences(one, two) == []
