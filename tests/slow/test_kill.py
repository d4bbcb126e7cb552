"""Fifty kill -9, of a worker, of the supervisor, of the whole group, at random moments of coarse and fine (minutes)."""

import shutil
import time
from collections import Counter

import pytest

from tests import killing
from tests.equal import differences
from tests.slow.searches import RUN, SEARCH, summed, whole_and_begun

KILLS = 50
SEED = 20
COMMAND = (*RUN, "--workers", "2")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_kills_give_runs_equal_to_an_undisturbed_one(tmp_path, capsys):
    whole, begun = whole_and_begun(tmp_path, SEARCH)
    kills, runs, began = Counter(), 0, time.monotonic()
    while kills.total() < KILLS:
        folder = tmp_path / f"killed-{runs}"
        shutil.copytree(begun, folder)
        kills += killing.ends_despite(folder, COMMAND, KILLS - kills.total(), seed=SEED + runs, patience=2.0)
        runs += 1
        assert differences(whole / "runs/small", folder / "runs/small") == []
    with capsys.disabled():
        print(summed(kills, runs, whole / "runs/small", began))
