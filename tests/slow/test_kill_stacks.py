"""kill -9 while trials are trained in stacks: what goes on, by other stacks or single, equals what nothing befell."""

import shutil
import time
from collections import Counter

import pytest

from tests import killing
from tests.equal import differences
from tests.slow.searches import RUN, SEARCH, summed, whole_and_begun

KILLS = 20
SEED = 7


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_kills_of_stacks_give_runs_equal_to_one_without_stacks(tmp_path, capsys):
    assert 'name = "mlp"' in SEARCH
    whole, begun = whole_and_begun(tmp_path, SEARCH, "--stack", "1")
    kills, runs, began = Counter(), 0, time.monotonic()
    while kills.total() < KILLS:
        folder = tmp_path / f"killed-{runs}"
        shutil.copytree(begun, folder)
        command = (*RUN, "--workers", "2", "--stack", "4")
        kills += killing.ends_despite(folder, command, KILLS - kills.total(), seed=SEED + runs, patience=2.0)
        runs += 1
        assert differences(whole / "runs/small", folder / "runs/small") == []
    with capsys.disabled():
        print(summed(kills, runs, whole / "runs/small", began))
