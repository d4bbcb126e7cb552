"""Thousands of recipes and run folders that nobody would write (an hour): none is a bug of tuner, floods or hangs."""

import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings

from tests.conftest import Done, tuner
from tests.fuzz.recipes import assert_ends_well, changes, recipe_text
from tests.fuzz.test_run_folders import look

HANG_SECONDS = 60
RELAXED = {
    "deadline": None,
    "database": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
}


@contextmanager
def no_hang():
    def stop(number, frame):
        raise AssertionError(f"no end after {HANG_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANG_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@settings(max_examples=5000, **RELAXED)
@given(changes)
def test_five_thousand_recipes(tmp_path, changed):
    (tmp_path / "small.toml").write_text(recipe_text(changed))
    with no_hang():
        assert_ends_well(tuner("check-init", "small.toml", "--dry-run", "--workers", "0", cwd=tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(7200)
@settings(max_examples=200, **RELAXED)
@given(changes)
def test_two_hundred_recipes_through_the_command_line(tmp_path, changed):
    (tmp_path / "small.toml").write_text(recipe_text(changed))
    command = [sys.executable, "-m", "tuner", "check-init", "small.toml", "--dry-run", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=2 * HANG_SECONDS)
    assert_ends_well(Done(done.returncode, done.stdout, done.stderr))


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(1000, 1500))
def test_five_hundred_damaged_runs(finished_run, tmp_path, seed):
    shutil.copytree(finished_run, tmp_path, dirs_exist_ok=True)
    with no_hang():
        look(tmp_path, seed)
