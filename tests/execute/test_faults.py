"""Every kind of fault, for real, in a worker: what is recorded, what is tried again, and what the others notice."""

import os
import signal
import textwrap
import time
from multiprocessing.forkserver import _forkserver

import pytest

from tests.execute.test_processes import At, gone
from tuner.core.errors import EnvironmentProblem
from tuner.core.result import TrialResult
from tuner.core.trial import TrialEnv, TrialSpec, WorkItem
from tuner.execute.deadlines import Deadlines
from tuner.execute.processes import ProcessExecutor
from tuner.execute.slots import Wish
from tuner.recipe.model import Recipe

MINE = """
import os, re, resource, signal, sys, time
from pathlib import Path
import torch
from torch import nn

def load(fault="none"):
    return Examples(40, fault), Examples(20)

class Examples:
    def __init__(self, n, fault="none"):
        self.n, self.fault = n, fault
    def __len__(self):
        return self.n
    def __getitem__(self, i):
        if self.fault == "corrupt" and i == 17:
            raise OSError("image file is truncated (7 bytes not processed)")
        if self.fault == "bug" and i == 17:
            raise KeyError("17")
        return torch.randn(4, generator=torch.Generator().manual_seed(i)) + 3 * (i % 2), i % 2

def build(input_shape, num_classes, fault="none", log="", at=0):
    if log:
        with open(log, "a") as file:
            file.write(str(at) + "\\n")
    tries = len(Path(log).read_text().split()) if log else 0
    if fault == "killed twice" and tries <= 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "segfault":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    if fault == "oom":
        used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
        resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20), resource.RLIM_INFINITY))
        torch.empty(1 << 30)
    if fault == "raise":
        raise ValueError("no such width")
    return Net(num_classes, fault)

class Net(nn.Module):
    def __init__(self, num_classes, fault):
        super().__init__()
        self.layer, self.fault = nn.Linear(4, num_classes), fault
    def forward(self, inputs):
        if self.fault == "diverge":
            return self.layer(inputs) * float("inf")
        if self.fault == "spin":
            while True:
                pass
        if self.fault == "holds the GIL":
            re.match("(a+)+$", "a" * 40 + "b")
        if self.fault == "slow":
            time.sleep(0.3)
        return self.layer(inputs)
"""


@pytest.fixture
def item(tmp_path):
    (tmp_path / "mine.py").write_text(textwrap.dedent(MINE))

    def make(number=0, data="none", epochs=1, **model):
        raw = {
            "name": "t",
            "data": {"source": "mine.py:load", "fault": data},
            "model": {"name": "mine.py:build", "at": number, **model},
            "train": {"batch_size": 8},
        }
        spec = TrialSpec(Recipe.model_validate(raw).tables(), {}, seed=0, horizon_epochs=epochs)
        return WorkItem(spec, number)

    return make


@pytest.fixture
def executor(tmp_path):
    made = []

    def make(workers=1, stage=False, deadline=None, **options):
        env = TrialEnv(tmp_path, tmp_path / "stage" if stage else None, cache_dir=tmp_path / "cache")
        options.setdefault("deadlines", Deadlines(deadline))
        made.append(ProcessExecutor(Wish(workers=workers), lambda progress: None, **options))
        return At(made[-1], env)

    yield make
    for one in made:
        one.close()


def only(results):
    (result,) = results
    return result.error.kind if result.error else result.status, result.error.message if result.error else ""


def tries(log):
    return len(log.read_text().split())


def test_each_fault_stays_in_its_trial_and_has_its_kind(tmp_path, item, executor):
    log = tmp_path / "log"
    faults = {"diverge": "diverged", "oom": "oom", "raise": "user-code", "segfault": "crash", "none": "completed"}
    items = [item(number, fault=fault, log=str(log)) for number, fault in enumerate(faults)]
    results = {result.id: result for result in executor(workers=2).run(items)}
    kinds = {
        fault: (result.error.kind if result.error else result.status)
        for fault, result in zip(faults, (results[one.spec.id] for one in items), strict=True)
    }
    assert kinds == faults
    message = results[items[1].spec.id].error.message
    assert "out of memory" in message and "allocate" in message
    assert "SIGSEGV" in results[items[3].spec.id].error.message
    counted = [log.read_text().split().count(str(number)) for number in range(3)]
    assert counted[2] == 1  # the user's error is not tried again
    assert log.read_text().split().count("3") == 2  # the dead worker's trial is, once


def test_a_trial_whose_worker_others_kill_is_tried_again(tmp_path, item, executor, monkeypatch):
    monkeypatch.setattr("tuner.execute.crashes.memory_kills", lambda: 0)
    log = tmp_path / "log"
    assert only(executor().run([item(fault="killed twice", log=str(log))]))[0] == "completed"
    assert tries(log) >= 3


def test_a_worker_killed_when_the_kernel_was_short_of_memory_is_tried_once_more(tmp_path, item, executor, monkeypatch):
    kills = iter(range(100))
    monkeypatch.setattr("tuner.execute.crashes.memory_kills", lambda: next(kills))
    kind, message = only(executor().run([item(fault="killed twice", log=str(tmp_path / "log"))]))
    assert (kind, message) == ("crash", "the worker process died, twice (SIGKILL, by the kernel, out of memory)")


@pytest.mark.parametrize("fault", ["spin", "holds the GIL"])
def test_a_hang_is_killed_and_its_place_is_named(tmp_path, item, executor, fault):
    kind, message = only(executor(deadlines=Deadlines(least=2.0)).run([item(fault=fault)]))
    assert kind == "timeout"
    assert "no sign of life for 2 seconds; the worker was killed, stuck at" in message
    assert f"{tmp_path}/mine.py:" in message


def test_a_trial_past_its_deadline_is_killed_although_it_goes_on(item, executor):
    kind, message = only(executor(deadline=1.0).run([item(fault="slow", epochs=500)]))
    assert kind == "timeout"
    assert message.startswith("not finished after 1 second, its deadline; the worker was killed")


def test_a_recipe_that_hangs_when_it_is_tried_out_ends_the_command(item, executor):
    with pytest.raises(EnvironmentProblem, match=r"no sign of life for 2 seconds while .* stuck at .*mine.py:\d+"):
        executor(deadline=2.0).preflight(item(fault="spin").spec.tables)


def test_a_corrupt_example_is_named_and_is_the_datas_fault(item, executor):
    kind, message = only(executor().run([item(data="corrupt")]))
    assert kind == "data"
    assert "data.source mine.py:load: train[17] cannot be read: OSError: image file is truncated" in message
    kind, message = only(executor().run([item(data="bug")]))
    assert (kind, "train[17] raised KeyError" in message) == ("user-code", True)


def test_a_full_disk_is_no_fault_of_the_trial(tmp_path, item, executor):
    (tmp_path / "stage").write_text("in the way")
    with pytest.raises(EnvironmentProblem, match="cannot write"):
        list(executor(stage=True).run([item()]))


def test_the_fork_server_may_be_killed(item, executor):
    one = executor()
    assert only(one.run([item(0)]))[0] == "completed"
    os.kill(_forkserver._forkserver_pid, signal.SIGKILL)
    assert only(one.run([item(1)]))[0] == "completed"


def test_workers_are_ended_when_nobody_listens_to_their_results_any_more(item, executor):
    one = executor(workers=2)
    results = one.run([item(0), item(1, fault="slow", epochs=500)])
    next(results)
    busy = [worker.crew.first.pid for worker in one.executor._busy]
    results.close()
    assert busy and all(gone(pid, seconds=5) for pid in busy)
    assert only(one.run([item(2)]))[0] == "completed"


# -- deadlines, by the closed form ----------------------------------------------------------------------------------


def work(until=None, **horizon):
    return WorkItem(TrialSpec({}, {}, 0, **horizon), 0, until)


def took(seconds, status="completed"):
    return TrialResult("", None, status, wall_seconds=seconds)


def test_a_deadline_is_twenty_times_the_expected_and_at_least_ten_minutes():
    deadlines = Deadlines()
    five = work(horizon_epochs=5)
    assert (deadlines.limit(five), deadlines.silence) == (None, 600)
    deadlines.learn(five, took(10))
    assert deadlines.limit(five) == 600
    deadlines.learn(five, took(500))
    assert deadlines.expected(work(until=1, horizon_epochs=5)) == 100
    assert deadlines.limit(work(horizon_epochs=10)) == 20 * 1000
    assert deadlines.limit(work(horizon_steps=100)) is None
    assert deadlines.exceeded(five, running=10_001, silent=0) == (
        "not finished after 167 minutes, its deadline (20 times the 8.33 minutes that such trials took)"
    )
    assert deadlines.exceeded(five, running=9_999, silent=601) == "no sign of life for 10 minutes"
    assert deadlines.exceeded(five, running=9_999, silent=599) is None


def test_failed_and_diverged_trials_teach_no_deadline():
    deadlines = Deadlines()
    for status in ("failed", "diverged"):
        deadlines.learn(work(horizon_epochs=5), took(9999, status))
    assert deadlines.limit(work(horizon_epochs=5)) is None


def test_a_given_deadline_replaces_both_rules():
    deadlines = Deadlines(given=7200)
    deadlines.learn(work(horizon_epochs=1), took(9999))
    assert deadlines.limit(work(horizon_epochs=1)) == deadlines.silence == 7200


def test_a_clock_that_jumps_changes_nothing(item, executor, monkeypatch):
    jumping = iter(range(10**9, 0, -(10**6)))
    monkeypatch.setattr(time, "time", lambda: float(next(jumping)))
    one = executor()
    assert only(one.run([item(0)]))[0] == "completed"
    one.executor.deadlines.least = 1.0
    (result,) = one.run([item(1, fault="spin")])
    assert (result.error.kind, result.wall_seconds > 0) == ("timeout", True)
