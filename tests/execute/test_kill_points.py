"""kill -9 at each write in turn: of states, checkpoints, curves, trials.jsonl, results, the winner and manifests."""

import multiprocessing
import os
import shutil
import signal

from tests.conftest import tuner as command
from tests.equal import differences


def killed_at(point, folder):
    """Run the search here, in a fork of the tests; die at that write: before its flush, or before its rename."""
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
    done = command("run", "small.toml", "--through", "fine", "--workers", "0", cwd=folder)
    os._exit(done.code)


def test_a_kill_at_every_write_in_turn_loses_nothing(finished_run, finished):
    run = finished / "runs" / "small"
    for name in ("coarse", "fine", "diagnose", "test"):
        shutil.rmtree(run / name)
    (run / "winner.json").unlink()
    point, died, code = 1, 0, None
    while code != 0:
        process = multiprocessing.get_context("fork").Process(target=killed_at, args=(point, finished))
        process.start()
        process.join(60)
        code = process.exitcode
        assert code in (0, -signal.SIGKILL)
        died += code != 0
        point += 2
    assert died > 10
    whole = finished.parent / "whole"
    shutil.copytree(finished_run / "runs" / "small", whole)
    for name in ("diagnose", "test"):
        shutil.rmtree(whole / name)
    assert differences(whole, run) == []
