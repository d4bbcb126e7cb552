"""kill -9 at each write in turn: of states, checkpoints, curves, trials.jsonl, results, the winner and manifests."""

import json
import multiprocessing
import os
import shutil
import signal

from tests.conftest import tuner as command
from tests.equal import differences


def killed_at(point, folder, *arguments):
    """Give a command here, in a fork of the tests; die at that write: before its flush, or before its rename."""
    import tuner.train.loop

    tuner.train.loop.SAVE_SECONDS = 0.0
    seen = 0

    def dying(act):
        def wrapped(*arguments, **options):
            nonlocal seen
            seen += 1
            if seen == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*arguments, **options)

        return wrapped

    os.fsync, os.replace = dying(os.fsync), dying(os.replace)
    done = command(*arguments, "--workers", "0", cwd=folder)
    os._exit(done.code)


def end_of(point, folder, *arguments):
    """The exit code of a command that is killed at that write, if it comes to it."""
    process = multiprocessing.get_context("fork").Process(target=killed_at, args=(point, folder, *arguments))
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode


def test_a_kill_at_every_write_in_turn_loses_nothing(finished_run, finished):
    run = finished / "runs" / "small"
    for name in ("coarse", "fine", "diagnose", "test"):
        shutil.rmtree(run / name)
    (run / "winner.json").unlink()
    point, died, code = 1, 0, None
    while code != 0:
        code = end_of(point, finished, "run", "small.toml", "--through", "fine")
        died += code != 0
        point += 2
    assert died > 10
    whole = finished.parent / "whole"
    shutil.copytree(finished_run / "runs" / "small", whole)
    for name in ("diagnose", "test"):
        shutil.rmtree(whole / name)
    assert differences(whole, run) == []


def test_a_look_at_the_test_split_is_logged_once_wherever_it_was_killed(finished):
    run = finished / "runs" / "small"
    point, code = 1, None
    while code != 0:
        before = len(json.loads((run / "test-looks.json").read_text()))
        code = end_of(point, finished, "test", "small.toml", "--force")
        if code != 0:
            assert not ((run / "test" / "manifest.json").exists() and (run / "test" / "plots").exists())
            assert command("test", "small.toml", "--workers", "0", cwd=finished).code == 0
        looks = json.loads((run / "test-looks.json").read_text())
        assert len(looks) == before + 1, point
        point += 2
    assert point > 10 and len({look["began_at"] for look in looks}) == len(looks)
