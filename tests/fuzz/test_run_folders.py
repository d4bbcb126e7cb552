"""A slice of the damaged runs for every day; `tests/slow/test_fuzz.py` has the whole."""

import random
import shutil

import pytest

from tests.conftest import tuner
from tests.fuzz.run_folders import damage

COMMANDS = (("status", "small.toml"), ("report", "small.toml"), ("run", "small.toml", "--dry-run", "--workers", "0"))


def look(folder, seed):
    """Damage a copy of a run, and look at it in every way: exit 3 or fine, in bounded words."""
    from tuner import open_run
    from tuner.core.errors import TunerError

    what = damage(folder / "runs/small", random.Random(seed))
    for command in COMMANDS:
        done = tuner(*command, cwd=folder)
        assert done.code in (0, 1, 3), f"{what}: {command[0]}: {done.code}: {done.err}"
        assert "\x1b[2J" not in done.out + done.err and len(done.err) < 2500, f"{what}: {command[0]}"
    try:
        run = open_run(folder / "runs/small")
        run.trials(), run.curves()
        for stage in run.stages:
            run.result(stage)
    except TunerError as error:
        assert error.exit_code == 3, f"{what}: open_run: {error}"


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_run_is_refused_or_fine(finished_run, tmp_path, seed):
    shutil.copytree(finished_run, tmp_path, dirs_exist_ok=True)
    look(tmp_path, seed)
