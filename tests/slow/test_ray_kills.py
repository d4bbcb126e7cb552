"""Commands on two Ray nodes of this machine, of which parts are killed at random: equal to one process (minutes)."""

import os
import random
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from tests import killing
from tests.equal import differences
from tests.slow.searches import RUN, search, summed, undisturbed

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

CHUNKS, KILLS = 5, 10  # fifty kills, in parts that can be run alone
SEARCH = search((6, 4), (4, 8))
TARGETS = ("trial", "task", "raylet", "node", "command")


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    """The folder of a run that nothing happened to."""
    return undisturbed(tmp_path_factory.mktemp("serial"), SEARCH, "--workers", "0")


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("TUNER_CACHE", str(tmp_path / "cache"))
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_ten_kills_of_trials_tasks_raylets_nodes_and_commands_give_an_equal_run(
    serial, cluster, tmp_path, capsys, chunk
):
    rng, kills, began, rounds = random.Random(chunk), Counter(), time.monotonic(), 0
    (tmp_path / "small.toml").write_text(SEARCH)
    while kills.total() < KILLS:
        rounds += 1
        arguments = (*RUN, "--engine", "ray", "--address", cluster.address, "--run-dir", f"runs/{rounds}")
        command = killing.start(tmp_path, *arguments)
        while True:
            try:
                command.wait(rng.uniform(1.0, 6.0))
                assert command.returncode == 0, command.communicate()[0]
                break
            except subprocess.TimeoutExpired:
                pass
            if kills.total() < KILLS:
                kills += killed(rng.choice(TARGETS), cluster, command, rng)
            if command.poll() not in (None, 0):
                command.communicate()
                command = killing.start(tmp_path, *arguments)
        assert differences(serial, tmp_path / f"runs/{rounds}") == []
    with capsys.disabled():
        print(summed(kills, rounds, serial, began))


def killed(target, cluster, command, rng):
    """Kill one of a kind; return what was killed. A node that is lost is replaced by another."""
    node = next(iter(cluster.worker_nodes))
    if target == "command":
        done = command.poll() is None and killing.kill_process(command.pid)
        command.wait(60)
    elif target in ("trial", "task"):
        found = killing.wait_for(lambda: sorted(running(target)))
        done = bool(found) and killing.kill_process(rng.choice(found))
    else:
        if target == "raylet":
            killing.kill_process(node.all_processes["raylet"][0].process.pid)
        cluster.remove_node(node, allow_graceful=False)
        cluster.add_node(num_cpus=1, wait=False)
        done = True
    return Counter({target: 1}) if done else Counter()


def running(kind):
    """The ids of our own descendants that are Ray tasks, or trials: forked from a server that a task has started."""
    parents, commands = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                commands[int(entry.name)] = (entry / "cmdline").read_bytes()
            except OSError:
                continue
    tasks = {pid for pid, command in commands.items() if command.startswith(b"ray::_run_job")}
    servers = {pid for pid, parent in parents.items() if parent in tasks and b"forkserver" in commands.get(pid, b"")}
    trials = {pid for pid, parent in parents.items() if parent in servers}
    return {pid for pid in (tasks if kind == "task" else trials) if descends(pid, parents)}


def descends(pid, parents):
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = parents.get(pid, 0)
    return False
