"""`tuner worker DIR`, and the engine that leaves trials in DIR."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import refused, tuner


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        (["--workers", "0"], ["--workers: must be 1 or more (got 0)"]),
        (["--trials-per-device", "0"], ["--trials-per-device: must be 1 or more (got 0)"]),
        (["--wait", "-1"], ["--wait: must be 0 seconds or more (got -1)"]),
        (["--linger", "nan"], ["--linger: must be 0 seconds or more (got nan)"]),
        (["--device", "gpu"], ["--device: unknown device 'gpu'"]),
    ],
)
def test_a_wrong_option_of_a_worker_is_refused(tmp_path, options, messages):
    refused(tuner("worker", "share", *options, cwd=tmp_path), 2, *messages)


def test_the_folder_engine_needs_its_folder(recipe, command):
    done = command("check-init", "small.toml", "--engine", "folder", serial=False)
    refused(done, 2, "--engine folder: --address is missing", "They run `tuner worker DIR`.")


def test_a_worker_that_waits_ends_cleanly_at_ctrl_c(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "tuner", "worker", str(tmp_path / "share")], stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 60
    while not list(tmp_path.glob("share/workers/*.json")) and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Interrupted" in err and "Traceback" not in err
    assert list(tmp_path.glob("share/workers/*.json")) == []
