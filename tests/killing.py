"""Kill a `tuner` command at random moments, again and again, until it ends by itself."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

# Saves an unfinished trial, and its best weights so far, after every epoch. The server that workers are forked from
# runs it when it starts.
SITE = """\
import sys

if any("forkserver" in argument for argument in sys.orig_argv):
    import tuner.train.loop

    tuner.train.loop.SAVE_SECONDS = tuner.train.loop.KEEP_SECONDS = 0.0
"""
TARGETS = ("worker", "supervisor", "group")


def start(folder, *arguments):
    """Start a command in a session of its own."""
    site = Path(folder) / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(SITE)
    paths = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "TUNER_CACHE": str(Path(folder) / "cache")}
    return subprocess.Popen(
        [sys.executable, "-m", "tuner", *arguments],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def workers_of(session):
    """The ids of the processes of a session that work on trials: forked, they have the fork server's command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[3]) == session and b"forkserver" in command:
            found[int(entry.name)] = int(fields[1])
    return [pid for pid, parent in found.items() if parent in found]  # the server itself is a child of the supervisor


def kill(process, target, rng):
    """Kill the target; return whether there was one."""
    if target == "worker":
        alive = workers_of(process.pid)
        if not alive:
            return False
        victim = rng.choice(sorted(alive))
    else:
        victim = process.pid
    return kill_process(victim, whole_group=target == "group")


def kill_process(pid, whole_group=False):
    """Kill a process, or its group; return whether there was one."""
    try:
        (os.killpg if whole_group else os.kill)(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def wait_for(find, seconds=5):
    """Return what is found first, or nothing where nothing is in time."""
    deadline = time.monotonic() + seconds
    while not (found := find()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def ready(process, log, seconds=60):
    """Wait until the command has a worker; false when it ends before."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if workers_of(process.pid):
            return True
        time.sleep(0.02)
    return False


def ends_despite(folder, arguments, kills, seed, patience):
    """Give a command again and again; kill something of it until `kills` are spent; return {target: kills}.

    `patience`: the longest time in seconds between a command's first worker, or the last kill, and the next kill.
    """
    rng, done = random.Random(seed), Counter()
    while True:
        process = start(folder, *arguments)
        alive = ready(process, None)
        while alive and done.total() < kills:
            try:
                process.wait(rng.uniform(0, patience))
                break
            except subprocess.TimeoutExpired:
                target = rng.choice(TARGETS)
                if kill(process, target, rng):
                    done[target] += 1
                if target != "worker":
                    break
        out, _ = process.communicate(timeout=300)
        if process.returncode >= 0:
            assert process.returncode == 0, out
            return done
