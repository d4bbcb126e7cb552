"""Two `tuner worker` and a command that share a folder: equal to the serial engine, whatever is killed (minutes)."""

import random
import signal
import subprocess
import time
from collections import Counter

import pytest

from tests import killing
from tests.equal import differences
from tests.slow.searches import RUN, SEARCH, summed, undisturbed

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
