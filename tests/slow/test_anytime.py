"""Twenty random moments at which coarse and fine are ended by force: at each there is a model to test (minutes)."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter

import pytest

from tests import killing
from tests.conftest import tuner
from tests.equal import differences
from tests.slow.searches import RUN, SEARCH, whole_and_begun

COMMAND = (*RUN, "--workers", "2")
MOMENTS = 20
LATEST = 1.5  # seconds between the first weights that a command has written and its end
WAYS = ("kill -9", "Ctrl-C", "SIGTERM")


def has_written(process, run, since):
    """Wait until a trial of the command has written weights; false when the command ends before."""
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError):  # the end of a stage deletes what it does not keep
            if any(path.stat().st_mtime > since for path in run.glob("*/checkpoints/*.pt")):
                return True
        time.sleep(0.02)
    return False


def end(process, way):
    """End a command by force, and wait for it."""
    if way == "kill -9":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.send_signal(signal.SIGINT if way == "Ctrl-C" else signal.SIGTERM)
    process.communicate(timeout=120)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_at_twenty_random_moments_there_is_a_model_to_test_and_the_run_ends_alike(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path / "cache"))
    whole, begun = whole_and_begun(tmp_path, SEARCH)
    rng, ended, of, began = random.Random(8), Counter(), Counter(), time.monotonic()
    while ended.total() < MOMENTS:
        folder = tmp_path / f"run-{ended.total()}"
        shutil.copytree(begun, folder)
        while True:
            since = time.time()
            process = killing.start(folder, *COMMAND)
            goes_on = ended.total() < MOMENTS and has_written(process, folder / "runs/small", since)
            try:
                out, _ = process.communicate(timeout=rng.uniform(0, LATEST) if goes_on else 600)
                break
            except subprocess.TimeoutExpired:
                way = rng.choice(WAYS)
                end(process, way)
            if (folder / "runs/small/winner.json").exists():
                seen = tmp_path / "seen"
                shutil.copytree(folder, seen)
                done = tuner("test", "small.toml", "--workers", "0", "--json", cwd=seen)
                assert done.code == 0, done.err
                of["a trial under way" if " of its " in done.out else "a trial that had ended"] += 1
                ended[way] += 1
                shutil.rmtree(seen)
        assert process.returncode == 0, out
        assert differences(whole / "runs/small", folder / "runs/small") == []
    with capsys.disabled():
        print(f"\n{dict(ended)}; tested: {dict(of)}; {time.monotonic() - began:.0f} s")
