"""The process executor under real faults: a worker killed, silent, raising; a supervisor killed."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from multiprocessing.connection import wait

import pytest

from tuner.core.errors import EnvironmentProblem, UserCodeError
from tuner.core.trial import TrialEnv, TrialSpec, WorkItem
from tuner.execute import processes, start
from tuner.execute.base import TakesMore
from tuner.execute.deadlines import Deadlines
from tuner.execute.processes import ProcessExecutor
from tuner.execute.serial import SerialExecutor
from tuner.execute.slots import Slot, Wish
from tuner.recipe.model import Recipe
from tuner.workflow.executor_pool import StageRunner

MODEL = """
import os, re, time
from torch import nn

def build(input_shape, num_classes, fault="none", flag=""):
    if fault == "kill" or (fault == "kill once" and not os.path.exists(flag)):
        open(flag or os.devnull, "w").close()
        os.kill(os.getpid(), 9)
    if fault == "segfault":
        os.kill(os.getpid(), 11)
    if fault == "hang":
        time.sleep(60)
    if fault == "holds the GIL":
        re.match("(a+)+$", "a" * 60 + "b")
    if fault == "raise":
        raise ValueError("no such width")
    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))
"""


class At(StageRunner):
    """A runner that also checks recipes."""

    def preflight(self, tables):
        return self.executor.preflight(tables, self.env)


@pytest.fixture
def item(tmp_path):
    (tmp_path / "m.py").write_text(textwrap.dedent(MODEL))

    def make(number=0, seed=0, **model):
        raw = {"name": "t", "data": {"source": "digits"}, "model": {"name": "m.py:build", **model}}
        tables = Recipe.model_validate(raw).tables()
        return WorkItem(TrialSpec(tables=tables, overrides={}, seed=seed, horizon_epochs=1), number)

    return make


@pytest.fixture
def executor(tmp_path):
    made = []

    def make(workers=1, **options):
        made.append(ProcessExecutor(Wish(workers=workers), lambda progress: None, **options))
        return At(made[-1], TrialEnv(tmp_path))

    yield make
    for one in made:
        one.close()


def test_trials_give_the_same_in_workers_and_in_this_process(tmp_path, item, executor):
    items = [item(number, seed=number) for number in range(4)]
    in_two = {result.id: result for result in executor(workers=2).run(items)}
    here = {
        result.id: result for result in SerialExecutor(Wish(), lambda progress: None).run(items, TrialEnv(tmp_path))
    }
    assert set(in_two) == set(here) == {one.spec.id for one in items}
    for key, result in here.items():
        assert result.status == "completed"
        assert in_two[key].curve == result.curve


def test_a_slot_is_filled_before_the_last_process_is_waited_for(item, executor, monkeypatch):
    steps = []
    begin, end = processes.ProcessExecutor._begin, start.Process.end
    monkeypatch.setattr(processes.ProcessExecutor, "_begin", lambda *args: (steps.append("begin"), begin(*args)))
    monkeypatch.setattr(start.Process, "end", lambda self: (steps.append("end"), end(self)))
    results = list(executor(workers=1).run([item(0, seed=0), item(1, seed=1)]))
    assert [result.status for result in results] == ["completed"] * 2
    assert steps[:3] == ["begin", "begin", "end"]


def test_a_trial_that_has_ended_is_not_lost_with_the_start_of_the_next(item, executor, monkeypatch):
    begin, begun = processes.ProcessExecutor._begin, []

    def fails_later(self, *given):
        begun.append(given)
        if len(begun) > 1:
            raise EnvironmentProblem("no worker process can be started")
        begin(self, *given)

    monkeypatch.setattr(processes.ProcessExecutor, "_begin", fails_later)
    results = executor(workers=1).run([item(0), item(1, seed=1)])
    assert next(results).status == "completed"
    with pytest.raises(EnvironmentProblem, match="no worker process can be started"):
        next(results)


def test_what_is_given_while_others_run_is_run_in_the_same_run(item, executor):
    found = executor()
    assert isinstance(found.executor, TakesMore)
    numbers = []
    for result in found.run([item(0), item(1, seed=1)]):
        numbers.append(result.id)
        if len(numbers) == 1:
            assert found.wants_more, "none waits"
            found.add([item(2, seed=2), item(3, seed=3)])
            assert not found.wants_more, "as many wait as run at once"
    assert sorted(numbers) == sorted(item(n, seed=n).spec.id for n in range(4))


def test_a_worker_killed_once_is_tried_again(tmp_path, item, executor):
    (result,) = executor().run([item(fault="kill once", flag=str(tmp_path / "flag"))])
    assert result.status == "completed"


@pytest.mark.parametrize(("fault", "name"), [("kill", "SIGKILL, "), ("segfault", "SIGSEGV")])
def test_a_worker_that_always_dies_costs_its_own_trial_alone(item, executor, fault, name):
    results = {result.id: result for result in executor().run([item(0, fault=fault), item(1)])}
    broken, sound = results[item(0, fault=fault).spec.id], results[item(1).spec.id]
    assert (broken.status, broken.error.kind) == ("failed", "crash")
    assert name in broken.error.message
    assert sound.status == "completed"


def test_a_silent_worker_is_killed(item, executor):
    began = time.monotonic()
    (result,) = executor(deadlines=Deadlines(least=3)).run([item(fault="hang")])
    assert (result.status, result.error.kind) == ("failed", "timeout")
    assert "no sign of life" in result.error.message
    assert time.monotonic() - began < 30


def test_user_code_that_raises_fails_its_trial_with_its_own_frames(tmp_path, item, executor):
    (result,) = executor().run([item(fault="raise")])
    assert (result.status, result.error.kind) == ("failed", "user-code")
    assert f"{tmp_path}/m.py:16" in result.error.message
    assert "tuner/train" not in result.error.message


def test_preflight_raises_here_what_was_found_there(item, executor):
    with pytest.raises(UserCodeError, match="no such width"):
        executor().preflight(item(fault="raise").spec.tables)


def test_preflight_answers_with_sizes(item, executor):
    answer = executor().preflight(item().spec.tables)
    assert answer.problems == ()
    assert answer.device == "cpu"
    assert answer.summary["num_classes"] == 10


@pytest.mark.parametrize("fault", ["hang", "holds the GIL"])
def test_workers_end_with_their_supervisor(tmp_path, item, fault):
    script = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from tuner.recipe.model import Recipe
        from tuner.core.trial import TrialEnv, TrialSpec, WorkItem
        from tuner.execute.slots import Slot
        from tuner.execute.start import start
        if __name__ == "__main__":
            raw = {{"name": "t", "data": {{"source": "digits"}}, "model": {{"name": "m.py:build", "fault": {fault!r}}}}}
            spec = TrialSpec(tables=Recipe.model_validate(raw).tables(), overrides={{}}, seed=0, horizon_epochs=1)
            process = start(Slot(0), "trial", WorkItem(spec, 0), TrialEnv(Path({str(tmp_path)!r})))
            print(process.pid, flush=True)
            process.pipe.poll(None)
        """
    )
    (tmp_path / "supervise.py").write_text(script)
    supervisor = subprocess.Popen([sys.executable, tmp_path / "supervise.py"], stdout=subprocess.PIPE, text=True)
    pid = int(supervisor.stdout.readline())
    os.kill(pid, 0)
    time.sleep(1.0)  # until it is in the user's code
    supervisor.send_signal(signal.SIGKILL)
    supervisor.wait()
    assert gone(pid, seconds=10)


def gone(pid, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_a_worker_that_has_answered_keeps_its_number_until_it_is_ended(tmp_path, item):
    process = start.start(Slot(0), "trial", item(), TrialEnv(tmp_path))
    while process.pipe.recv()[0] != "result":
        pass
    assert not wait([process._process.sentinel], timeout=0.3)
    process.end()
    assert process.exitcode == -signal.SIGKILL


def test_env_may_change_between_runs(tmp_path, item, executor):
    one = executor()
    list(one.run([item(0)]))
    list(one.at(tmp_path / "stage").run([item(1, seed=1)]))
    assert [path.stem for path in (tmp_path / "stage" / "checkpoints").glob("*.pt")] == [item(1, seed=1).spec.id]


@pytest.mark.slow
def test_a_package_that_trials_use_is_loaded_once_by_the_server(tmp_path):
    program = """
        from pathlib import Path
        from tuner.core.trial import TrialEnv, TrialSpec, WorkItem
        from tuner.execute.processes import ProcessExecutor
        from tuner.execute.slots import Wish
        from tuner.recipe.model import Recipe
        raw = {"name": "t", "data": {"source": "digits"}, "model": {"name": "mine.py:build"}}
        item = WorkItem(TrialSpec(Recipe.model_validate(raw).tables(), {}, seed=0, horizon_epochs=1), 0)
        executor = ProcessExecutor(Wish(workers=1), lambda progress: None, libraries=["library", "broken"])
        print([result.status for result in executor.run([item, item], TrialEnv(Path(".").resolve()))])
    """
    (tmp_path / "library.py").write_text("open('loaded', 'a').write('once ')")
    (tmp_path / "mine.py").write_text(
        "import library\nfrom torch import nn\ndef build(input_shape, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    run = [sys.executable, "program.py"]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), (tmp_path / "loaded").read_text()) == ("['completed', 'completed']", "once ")

    (tmp_path / "broken.py").write_text("raise RuntimeError('no such library')")
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "['completed', 'completed']"
