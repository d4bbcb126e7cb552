"""Two `tuner worker` and a command that share a folder: equal to the serial engine, whatever is killed (minutes)."""

import json
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter

import pytest
import torch

from tests import killing
from tests.conftest import tuner
from tests.equal import differences
from tests.slow.searches import RUN, SEARCH, search, summed, undisturbed
from tuner.core.inventory import Inventory
from tuner.execute.folder_worker import FolderWorker, Patience
from tuner.execute.machine import look
from tuner.execute.slots import Wish
from tuner.workflow.best_so_far import BestSoFar
from tuner.workflow.whole_run import WholeRun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

CHUNKS, KILLS = 5, 10  # fifty kills, in parts that can be run alone
COMMAND = (*RUN, "--engine", "folder", "--address", "share")
TARGETS = ("worker", "trial", "command")


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    """The folder of a run that nothing happened to."""
    return undisturbed(tmp_path_factory.mktemp("serial"), SEARCH, "--workers", "0")


@pytest.fixture
def shared(tmp_path):
    """A folder for two workers and a command; its processes are ended with the test."""
    folder, begun = tmp_path / "shared", []
    folder.mkdir()
    (folder / "small.toml").write_text(SEARCH)

    def begin(*arguments):
        begun.append(killing.start(folder, *arguments))
        return begun[-1]

    yield folder, begin
    for process in begun:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


def worker(begin):
    return begin("worker", "share", "--workers", "1", "--linger", "2")


def test_two_workers_give_what_the_serial_engine_gives_and_end_with_the_command(serial, shared):
    folder, begin = shared
    workers, command = [worker(begin), worker(begin)], begin(*COMMAND)
    out, _ = command.communicate(timeout=1200)
    assert command.returncode == 0, out
    for process in workers:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0 and "no command is left" in out and ": completed, " in out
    assert differences(serial, folder / "runs/small") == []
    assert list(folder.glob("share/run-*")) == [] and list(folder.glob("share/workers/*")) == []


def test_ctrl_c_hands_a_trial_back(serial, shared):
    folder, begin = shared
    first, command = worker(begin), begin(*COMMAND)
    assert killing.ready(first, None, 120)
    first.send_signal(signal.SIGINT)
    out, _ = first.communicate(timeout=60)
    assert first.returncode == 130 and "Traceback" not in out, out
    second = worker(begin)
    out, _ = command.communicate(timeout=1200)
    assert command.returncode == 0, out
    second.communicate(timeout=60)
    assert differences(serial, folder / "runs/small") == []


def test_a_command_that_is_killed_leaves_the_best_weights_of_a_trial_that_trains(shared):
    folder, begin = shared
    (folder / "small.toml").write_text(search((2, 2), (2, 1500)))
    worker(begin)
    command, winner = begin(*COMMAND), folder / "runs/small/winner.json"
    under_way = killing.wait_for(lambda: winner.exists() and '"epochs": 1500' in winner.read_text(), 120)
    assert under_way, command.communicate()[0]
    killing.kill_process(command.pid)
    command.communicate(timeout=60)
    done = tuner("test", "small.toml", "--workers", "0", cwd=folder)
    assert done.code == 0, done.err
    assert " of its 1,500 epochs" in " ".join(done.out.split())


def test_a_trial_elsewhere_that_the_time_of_the_run_cuts_leaves_its_best_weights(finished, monkeypatch):
    """The worker is a thread of this process; the time is over as soon as a trial has told of its best weights."""
    shutil.rmtree(finished / "runs/small/fine")
    (finished / "runs/small/winner.json").unlink()
    path, told = finished / "small.toml", []
    path.write_text(path.read_text().replace("trials = 2\nepochs = 3\n", "trials = 2\nepochs = 1500\n"))
    monkeypatch.setattr(BestSoFar, "hear_on_the_way", lambda self, record: told.append(record))
    monkeypatch.setattr(WholeRun, "is_over", lambda self, factor=1.0: bool(told))
    monkeypatch.setattr(WholeRun, "settings", lambda self, name, say: {})
    winner = {"round": 1, "trial": "", "checkpoint": "coarse/checkpoints/x.pt", "params": {}, "so_far": "coarse"}
    (finished / "runs/small/winner.json").write_text(json.dumps(winner))  # without one a run is not cut
    look()  # the server that trials are forked from ends with the thread that it was started in
    share, said = finished / "share", []
    one = FolderWorker(share, Inventory(1, 8 << 30), Wish("cpu"), Patience(linger=0.0), said.append)
    thread = threading.Thread(target=one.work)
    thread.start()
    done = tuner("run", "small.toml", "--budget", "20m", "--through", "fine", *COMMAND[-4:], cwd=finished)
    thread.join(timeout=60)
    assert done.code == 0, done.err
    (cut,) = [json.loads(line) for line in (finished / "runs/small/fine/trials.jsonl").read_text().splitlines()]
    reached = cut["item"]["until_epoch"]
    assert cut["result"]["status"] == "stopped" and 0 < reached < 1500
    assert {row["epoch"] for row in cut["result"]["curve"]} == set(range(1, reached + 1))
    weights = torch.load(
        finished / "runs/small" / json.loads((finished / "runs/small/winner.json").read_text())["checkpoint"],
        weights_only=True,
    )
    assert weights["spec_id"] == cut["result"]["id"] and weights["epoch"] == cut["result"]["best_epoch"]
    assert tuner("test", "small.toml", "--workers", "0", cwd=finished).code == 0


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_ten_kills_of_workers_trials_and_commands_give_an_equal_run(serial, shared, capsys, chunk):
    folder, begin = shared
    rng, kills, began, rounds = random.Random(chunk), Counter(), time.monotonic(), 0
    workers = [worker(begin), worker(begin)]
    while kills.total() < KILLS:
        rounds += 1
        command = begin(*COMMAND, *(["--run-dir", f"runs/{rounds}"]))
        while True:
            try:
                command.wait(rng.uniform(0.2, 3.0))
                assert command.returncode == 0, command.communicate()[0]
                break
            except subprocess.TimeoutExpired:
                pass
            if kills.total() < KILLS:
                kills += killed(rng.choice(TARGETS), workers, command, rng)
            workers = [one if one.poll() is None else worker(begin) for one in workers]
            if command.poll() not in (None, 0):
                command = begin(*COMMAND, "--run-dir", f"runs/{rounds}")
        assert differences(serial, folder / f"runs/{rounds}") == []
    with capsys.disabled():
        print(summed(kills, rounds, serial, began))


def killed(target, workers, command, rng):
    """Kill one of a kind; return what was killed."""
    if target == "trial":
        found = killing.wait_for(lambda: sorted(pid for one in workers for pid in killing.workers_of(one.pid)))
        done = bool(found) and killing.kill_process(rng.choice(found))
    else:
        victim = command if target == "command" else rng.choice(workers)
        done = victim.poll() is None and killing.kill_process(victim.pid)
        if done:
            victim.communicate(timeout=60)
    return Counter({target: 1}) if done else Counter()
