"""Fifty kill -9, of a worker, of the supervisor, of the whole group, at random moments of coarse and fine (minutes)."""

import shutil
import subprocess
import sys
import time
from collections import Counter

import pytest

from tests import killing
from tests.conftest import RECIPE
from tests.equal import compared, differences

KILLS = 50
SEED = 20
SEARCH = RECIPE.replace("trials = 2\nepochs = 2", "trials = 8\nepochs = 6").replace(
    "trials = 2\nepochs = 3\n", "trials = 4\nepochs = 12\n"
)
COMMAND = ("run", "small.toml", "--through", "fine", "--workers", "2", "--quiet")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_kills_give_runs_equal_to_an_undisturbed_one(tmp_path, capsys):
    whole, begun = tmp_path / "whole", tmp_path / "begun"
    whole.mkdir()
    (whole / "small.toml").write_text(SEARCH)
    command = [sys.executable, "-m", "tuner", *COMMAND]
    subprocess.run([*command, "--through", "lr-sweep"], cwd=whole, check=True, capture_output=True)
    shutil.copytree(whole, begun)
    subprocess.run(command, cwd=whole, check=True, capture_output=True)

    kills, runs, began = Counter(), 0, time.monotonic()
    while kills.total() < KILLS:
        folder = tmp_path / f"killed-{runs}"
        shutil.copytree(begun, folder)
        kills += killing.ends_despite(folder, COMMAND, KILLS - kills.total(), seed=SEED + runs, patience=2.0)
        runs += 1
        assert differences(whole / "runs/small", folder / "runs/small") == []
    with capsys.disabled():
        hit = ", ".join(f"{count} {target}" for target, count in sorted(kills.items()))
        files = len(compared(whole / "runs/small"))
        print(f"\n{kills.total()} kills ({hit}) in {runs} runs, all equal in {files} files; ", end="")
        print(f"{time.monotonic() - began:.0f} s")
