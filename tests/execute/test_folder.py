"""A shared folder: who takes which trial, who is gone, and which answer counts."""

import errno
import os
import resource
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest

from tests.equal import assert_equal_outcomes, outcome
from tuner.core.errors import EnvironmentProblem, InputError
from tuner.core.inventory import Gpu, Inventory
from tuner.core.result import TrialResult
from tuner.core.signals import TimeIsOver
from tuner.core.store import write_bytes
from tuner.core.trial import Progress, TrialEnv, TrialSpec, WorkItem
from tuner.execute import folder as shared
from tuner.execute.crashes import KILLED_TRIES
from tuner.execute.folder import RunFolder, Watch, renew, sign_of_life, take
from tuner.execute.folder_engine import FolderExecutor, Shared
from tuner.execute.folder_worker import Ended, FolderWorker, Patience
from tuner.execute.machine import look
from tuner.execute.news import News
from tuner.execute.remote import Answer, Job
from tuner.execute.serial import SerialExecutor
from tuner.execute.slots import Leases, Slot, Slots, Wish
from tuner.execute.versions import versions
from tuner.recipe.model import Recipe

TABLES = Recipe.model_validate({"name": "t", "data": {"source": "digits"}, "model": {"name": "mlp"}}).tables()
ONE_CORE = Inventory(cores=1, memory_bytes=8 << 30)


def item(number, until=None, **overrides):
    return WorkItem(TrialSpec(TABLES, overrides, seed=number, horizon_epochs=2), number, until)


def completed(item, loss=1.0):
    rows = [{"step": 1, "epoch": 1, "split": "train", "loss": loss}]
    return Answer("result", TrialResult(item.spec.id, item.until_epoch, "completed", rows).to_json())


@pytest.fixture
def env(tmp_path):
    return TrialEnv(tmp_path, tmp_path / "runs/t/coarse")


@pytest.fixture
def engine(tmp_path):
    made = []

    def make(heard=lambda progress: None):
        made.append(FolderExecutor(Wish("cpu"), Shared(tmp_path / "share"), heard))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def run(tmp_path):
    return RunFolder.of(tmp_path / "share", tmp_path / "runs/t")


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets; what waits for it goes on at once."""
    now = [1000.0]
    monkeypatch.setattr(shared.time, "monotonic", lambda: now[0])
    return now


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    return process.pid


def of_another(monkeypatch, pid, host_changes=True, **about):
    """A sign of life as another machine, or a process of this one, has written it."""
    with monkeypatch.context() as patch:
        patch.setattr(shared.os, "getpid", lambda: pid)
        if host_changes:
            patch.setattr(shared, "machine", lambda: "another")
        return sign_of_life(**{"beat": 1, **about})


def test_a_job_is_taken_by_one_alone(tmp_path, run):
    run.make()
    assert [take(run.lease("a"), b"{}") for _ in range(2)] == [True, False]


def test_a_lease_that_was_taken_back_is_not_renewed(run):
    run.make()
    lease = run.lease("a")
    take(lease, b"a longer content")
    renew(lease, b"short")
    assert lease.read_bytes() == b"short"
    lease.unlink()
    renew(lease, b"short")
    assert not lease.exists()


def test_a_sign_of_life_stops_by_the_clock_of_the_one_who_looks(tmp_path, clock, monkeypatch):
    path, watch = tmp_path / "sign.json", Watch(lost_seconds=60)
    path.write_bytes(of_another(monkeypatch, 1))
    assert watch.lives(path)
    clock[0] += 59
    assert watch.lives(path)
    path.write_bytes(of_another(monkeypatch, 1, beat=2))
    clock[0] += 59
    assert watch.lives(path)
    clock[0] += 61
    assert watch.lives(path) is None
    assert watch.lives(tmp_path / "none.json") is None


def test_a_process_of_this_machine_that_has_ended_counts_as_gone_at_once(tmp_path, monkeypatch):
    path = tmp_path / "sign.json"
    path.write_bytes(of_another(monkeypatch, dead_process(), host_changes=False))
    assert Watch().lives(path) is None
    path.write_bytes(sign_of_life(1))
    assert Watch().lives(path)


def test_a_sign_that_cannot_be_read_never_rises(tmp_path, clock):
    path, watch = tmp_path / "sign.json", Watch(lost_seconds=60)
    path.write_text("{torn")
    assert watch.lives(path)
    clock[0] += 61
    assert watch.lives(path) is None


def test_the_first_answer_counts_and_a_second_changes_nothing(env, engine, run):
    one, only = engine(), item(0)
    results = one.run([only], env)
    answered = []

    def answer():
        while not (jobs := run.open_jobs()):
            pass
        run.answer(jobs[0], "first", completed(only, 1.0))
        answered.append(jobs[0])

    thread = threading.Thread(target=answer)
    thread.start()
    (result,) = results
    thread.join()
    assert result.curve[0]["loss"] == 1.0 and result.worker == 1
    run.answer(answered[0], "second", completed(only, 2.0))
    assert run.open_jobs() == [] and not run.lease(answered[0]).exists()


def test_a_trial_whose_worker_is_gone_is_open_again_and_given_up_in_the_end(env, engine, run, monkeypatch):
    one, only, taken = engine(), item(0), []
    over, dead = threading.Event(), dead_process()
    content = of_another(monkeypatch, dead, host_changes=False, worker="gone")

    def die():
        while not over.is_set():
            for name in run.open_jobs() if run.path.exists() else ():
                taken.append(take(run.lease(name), content))

    monkeypatch.setattr("tuner.execute.folder_engine.BEAT_SECONDS", 0.02)
    monkeypatch.setattr("tuner.execute.folder_engine.POLL_SECONDS", 0.01)
    thread = threading.Thread(target=die)
    thread.start()
    (result,) = one.run([only], env)
    over.set()
    thread.join()
    assert result.status == "failed" and result.error.kind == "crash"
    assert f"its workers were lost, {KILLED_TRIES} times" in result.error.message
    assert sum(taken) == KILLED_TRIES


def test_an_answer_waits_for_the_files_that_it_names(env, engine, run, tmp_path, monkeypatch):
    monkeypatch.setattr("tuner.execute.folder_engine.POLL_SECONDS", 0.01)
    one, only = engine(), item(0)
    (tmp_path / "weights").write_bytes(b"weights")
    name = f"coarse/checkpoints/{only.spec.id}.pt"
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 1:
            (job,) = run.open_jobs()
            answer = completed(only)
            digest = run.blobs.put(tmp_path / "weights")
            run.blobs.drop(digest)
            run.answer(job, "w", Answer(answer.kind, answer.value, {name: digest}))
        elif len(looks) == 3:
            run.blobs.put(tmp_path / "weights")

    monkeypatch.setattr("tuner.execute.folder_engine.time.sleep", sleep)
    (result,) = one.run([only], env)
    assert result.status == "completed" and len(looks) >= 3
    assert (env.stage_dir / f"checkpoints/{only.spec.id}.pt").read_bytes() == b"weights"


def test_what_a_workers_machine_lacks_ends_the_command_with_the_workers_name(env, engine, run, monkeypatch):
    one = engine()

    def sleep(seconds):
        (job,) = run.open_jobs()
        run.answer(job, "node7-ab12", Answer.raised(EnvironmentProblem("disk full", "Free some space.")))

    monkeypatch.setattr("tuner.execute.folder_engine.time.sleep", sleep)
    with pytest.raises(EnvironmentProblem, match="worker node7-ab12: disk full"):
        list(one.run([item(0)], env))
    assert run.open_jobs() == []


def test_a_folder_whose_command_lives_is_refused(env, engine, run, monkeypatch):
    run.make()
    beat = [0]

    def sleep(seconds):
        beat[0] += 1
        run.coordinator.write_bytes(of_another(monkeypatch, 42, beat=beat[0]))

    sleep(0)
    monkeypatch.setattr("tuner.execute.folder_engine.time.sleep", sleep)
    with pytest.raises(InputError, match=r"is in use by process 42 on .*, which hands out the same run"):
        list(engine().run([item(0)], env))


def test_a_command_that_was_killed_is_gone_on_with_and_its_answers_are_taken(env, engine, run, monkeypatch):
    first = engine()
    results = first.run([item(0)], env)

    def killed(seconds):
        raise KeyError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr("tuner.execute.folder_engine.time.sleep", killed)
        patch.setattr(RunFolder, "withdraw", lambda run, name: None)  # as it would have no time for it
        with pytest.raises(KeyError):
            next(results)
    (job,) = run.open_jobs()
    run.answer(job, "w", completed(item(0)))
    run.coordinator.write_bytes(of_another(monkeypatch, dead_process(), host_changes=False))
    (result,) = engine().run([item(0)], env)
    assert result.status == "completed"


def test_a_closed_command_leaves_nothing_behind(env, engine, run, monkeypatch):
    one = engine()

    def sleep(seconds):
        run.answer(run.open_jobs()[0], "w", completed(item(0)))

    monkeypatch.setattr("tuner.execute.folder_engine.time.sleep", sleep)
    assert len(list(one.run([item(0)], env))) == 1
    assert run.coordinator.exists()
    one.close()
    one.close()
    assert not run.path.exists()


def test_no_worker_is_said_once(env, engine, run, monkeypatch):
    heard, looks = [], []
    one = engine(heard.append)
    monkeypatch.setattr("tuner.execute.folder_engine.BEAT_SECONDS", 0.0)

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            run.answer(run.open_jobs()[0], "w", completed(item(0)))

    monkeypatch.setattr("tuner.execute.folder_engine.time.sleep", sleep)
    list(one.run([item(0)], env))
    assert [progress.note for progress in heard if progress.lasting] == [
        f"no worker in {one.shared.folder}: waiting for one (tuner worker {one.shared.folder})"
    ]


def test_the_time_of_a_run_passes_while_there_is_no_worker(env, engine, run, monkeypatch):
    heard = []

    def hear(progress):
        heard.append(progress)
        if progress.note == "waits for a worker":
            raise TimeIsOver

    with pytest.raises(TimeIsOver):
        list(engine(hear).run([item(4)], env))
    assert heard[-1].number == 4 and run.open_jobs() == []


def worker(folder, said=None, **patience):
    say = (lambda text: None) if said is None else said.append
    return FolderWorker(folder, ONE_CORE, Wish("cpu"), Patience(**patience), say)


def test_a_worker_that_no_command_comes_for_says_so(tmp_path):
    with pytest.raises(InputError, match=r"share: no command has come in 0 s\ntuner run RECIPE --engine folder"):
        worker(tmp_path / "share", wait=0).work()
    assert list((tmp_path / "share/workers").iterdir()) == []


def test_a_worker_waits_for_a_command_that_was_killed_and_says_so(tmp_path, run, monkeypatch):
    run.make()
    run.coordinator.write_bytes(of_another(monkeypatch, dead_process(), host_changes=False))
    with pytest.raises(InputError, match="the command whose trials are here has not come back in 0 s"):
        worker(tmp_path / "share", wait=0).work()


def test_a_worker_with_another_torch_refuses(tmp_path, run):
    run.make()
    run.coordinator.write_bytes(sign_of_life(1, versions={**versions(), "torch": "1.0"}))
    with pytest.raises(EnvironmentProblem, match=r"has another torch 1\.0 \(here .*\)\nInstall the same Python"):
        worker(tmp_path / "share", wait=0).work()


def test_a_worker_gives_what_one_process_gives_rung_after_rung_and_ends_with_the_command(
    tmp_path, env, engine, run, monkeypatch
):
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path / "cache"))
    look()  # the server that trials are forked from ends with the thread that it was started in
    said, heard = [], []
    one = engine(heard.append)
    thread = threading.Thread(target=worker(tmp_path / "share", said, linger=0.0).work)
    thread.start()
    preflight = one.preflight(TABLES, env)
    assert not preflight.problems and one.slots.device == "cpu" and len(one.slots) == 1
    assert len(preflight.decoded) == 2 and set(preflight.decoded) == set(one._decoded)
    alone = tmp_path / "alone/coarse"
    for until in (1, None):  # the second goes on from the states that came back from the first
        items = [item(number, until) for number in range(2)]
        serial = SerialExecutor(Wish("cpu"), lambda progress: None).run(items, TrialEnv(tmp_path, alone))
        assert_equal_outcomes(outcome(one.run(items, env), env.stage_dir), outcome(serial, alone))
    assert not list(env.stage_dir.rglob("*.state.pt")) and not list(env.stage_dir.rglob("*.tmp"))
    one.close()
    thread.join(timeout=30)
    assert not thread.is_alive() and not run.path.exists()
    assert said[0].startswith(f"works for {env.stage_dir.parent} (process {os.getpid()} on ")
    assert said[1].startswith("check of the recipe: done, ") and said[-1] == "no command is left; 5 jobs done"


def test_trials_of_an_invented_machine_of_eight_gpus_never_share_one(tmp_path, env, run, monkeypatch):
    """What trains is invented as well: it holds its GPU for a moment, and answers."""
    gpus = tuple(Gpu(str(index), "H100", 80 << 30, 80 << 30) for index in range(8))
    held, shared_by, used, lock = Counter(), [], Counter(), threading.Lock()

    def train(job, blobs, outfit):
        with lock:
            held[outfit.gpu] += 1
            used[outfit.gpu] += 1
            shared_by.append((max(held.values()), held.total()))
        time.sleep(0.2)
        with lock:
            held[outfit.gpu] -= 1
        return completed(WorkItem.from_json(job.value))

    monkeypatch.setattr("tuner.execute.folder_worker.carry_out", train)
    one = FolderExecutor(Wish("cuda"), Shared(tmp_path / "share"), lambda progress: None)
    machine = Inventory(64, 512 << 30, gpus)
    working = FolderWorker(tmp_path / "share", machine, Wish(per_device=1), Patience(linger=0.0), lambda text: None)
    thread = threading.Thread(target=working.work)
    thread.start()
    items = [WorkItem(replace(item(number).spec, device="cuda"), number) for number in range(24)]
    assert len(list(one.run(items, env))) == 24
    one.close()
    thread.join(timeout=30)
    assert max(most for most, _ in shared_by) == 1 and max(total for _, total in shared_by) == 8
    assert set(used) == {gpu.name for gpu in gpus}


def test_a_trial_that_is_cut_has_told_its_curve_and_left_its_best_weights(tmp_path, env, run, monkeypatch):
    """What trains is invented: it tells an epoch, and goes on until it is stopped."""
    rows = [{"step": 1, "epoch": 1, "split": "val", "loss": 1.0, "accuracy": 0.5}]
    ended = []

    def train(job, blobs, outfit):
        (tmp_path / "best.pt").write_bytes(b"weights")
        outfit.on_progress(Progress(5, 0.25, "epoch 1/4", rows=rows, kept=(1, 0.5)), tmp_path / "best.pt")
        try:
            while True:
                outfit.tick()
        except Ended:
            ended.append(job.value["number"])
            raise

    def hear(progress):
        heard.append(progress)
        if progress.kept:
            raise TimeIsOver

    heard = []
    monkeypatch.setattr("tuner.execute.folder_worker.carry_out", train)
    for name in ("folder_worker.BEAT_SECONDS", "folder_worker.POLL_SECONDS", "folder_engine.POLL_SECONDS"):
        monkeypatch.setattr(f"tuner.execute.{name}", 0.02)
    monkeypatch.setattr("tuner.execute.folder_engine.BEAT_SECONDS", 0.1)
    one = FolderExecutor(Wish("cpu"), Shared(tmp_path / "share"), hear)
    thread = threading.Thread(target=worker(tmp_path / "share", linger=0.0).work)
    thread.start()
    with pytest.raises(TimeIsOver):
        list(one.run([item(5)], env))
    assert heard[-1] == Progress(5, 0.25, "epoch 1/4", rows=rows, kept=(1, 0.5))
    assert (env.stage_dir / f"checkpoints/{item(5).spec.id}.so-far.pt").read_bytes() == b"weights"
    assert run.open_jobs() == run.taken() == []
    one.close()
    thread.join(timeout=30)
    assert ended == [5] and not run.path.exists()


def test_what_is_told_after_the_command_has_ended_makes_no_folder(tmp_path, run):
    (tmp_path / "best.pt").write_bytes(b"weights")
    run.tell("a", "w", News(0.5), tmp_path / "best.pt", lambda: None)
    assert not run.path.exists()


@pytest.fixture
def offered(tmp_path, run):
    """A command that lives, with one job, and a worker for it; what trains does nothing until the test ends."""
    run.make()
    run.coordinator.write_bytes(sign_of_life(1, versions=versions()))
    job = Job("trial", item(0).to_json(), str(tmp_path), "coarse", "cpu")
    one, over = worker(tmp_path / "share"), threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tuner.execute.folder_worker.carry_out", lambda *given: over.wait(60))
        yield one, run.offer(job, 0)
        over.set()
        for task in one._tasks:
            task.thread.join(60)


def test_a_worker_that_takes_a_job_again_after_its_lease_was_taken_back_holds_it_once(offered, run):
    one, name = offered
    one._current()
    one._slots, one._fit = Slots("cpu", (Slot(0), Slot(1))), lambda run: 2
    one._leases = Leases(one._slots)
    one._take_jobs(run)
    run.lease(name).unlink()  # it was silent for too long
    one._take_jobs(run)
    assert [task.has_lease() for task in one._tasks] == [False, True]


def test_a_lease_that_was_taken_at_the_moment_its_job_was_taken_back_is_given_up(offered, run, monkeypatch):
    one, name = offered

    def late(path, content):
        run.withdraw(name)
        return take(path, content)

    monkeypatch.setattr("tuner.execute.folder_worker.take", late)
    one._take_jobs(one._current())
    assert one._tasks == [] and run.taken() == [] and len(one._leases._free) == 1


def test_a_lease_that_cannot_be_read_for_a_moment_is_not_given_up(offered, run, monkeypatch):
    one, name = offered
    one._take_jobs(one._current())

    def trouble(path):
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(shared, "read_regular", trouble)
        assert one._tasks[0].has_lease()
    run.lease(name).unlink()
    assert not one._tasks[0].has_lease()


def test_a_worker_outlives_a_moment_in_which_its_sign_cannot_be_written_but_not_the_first(offered, tmp_path):
    one, _ = offered
    (tmp_path / "share/workers").write_text("in the way")
    with pytest.raises(EnvironmentProblem, match="cannot write .*/share/workers/"):
        one._show()
    one._due = 0.0
    one._show()


def test_a_full_disk_under_a_lease_is_said_and_leaves_no_lease(offered, run, monkeypatch):
    one, name = offered
    current, before = one._current(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(EnvironmentProblem, match=rf"cannot write .*/leases/{name}\.json: File too large"):
            one._take_jobs(current)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert run.taken() == []


def test_what_no_worker_can_carry_out_ends_the_command_and_one_worker(tmp_path, env, engine, run, monkeypatch):
    def broken(*given):
        raise RuntimeError("a bug")

    one, working, looks, ended = engine(), worker(tmp_path / "share"), [], []
    monkeypatch.setattr("tuner.execute.folder_worker.carry_out", broken)

    def sleep(seconds):
        looks.append(seconds)
        assert len(looks) < 5, "the command waits for ever"
        working._take_jobs(working._current())
        for task in working._tasks:
            task.thread.join(60)
        try:
            working._reap()
        except RuntimeError as error:
            ended.append(error)

    monkeypatch.setattr("tuner.execute.folder_engine.time.sleep", sleep)
    with pytest.raises(EnvironmentProblem, match=rf"worker {working.name}: RuntimeError: a bug"):
        list(one.run([item(0)], env))
    assert [str(error) for error in ended] == ["a bug"]


def test_a_second_answer_of_a_worker_waits_for_its_files_as_long_as_the_first(env, engine, run, tmp_path, clock):
    one, only, lost = engine(), item(0), Counter()
    one._opened(env)
    answer = Answer("result", completed(only).value, {"coarse/checkpoints/x.pt": "0" * 64})
    for _ in range(2):
        run.answer("job", "w", answer)
        (path,) = [path for _, path in run.answers()]
        assert one._read(path, "job", lost) is None and path.exists()
        clock[0] += shared.LOST_SECONDS + 1
        assert one._read(path, "job", lost) is None and not path.exists()


def test_a_worker_leaves_trials_to_others_that_want_another_kind_of_device(tmp_path, env, run, monkeypatch):
    one = FolderExecutor(Wish("cuda"), Shared(tmp_path / "share"), lambda progress: None)
    on_cpu, looks = worker(tmp_path / "share"), []

    def sleep(seconds):
        looks.append(seconds)
        on_cpu._take_jobs(on_cpu._current())
        if len(looks) == 2:
            run.answer(run.open_jobs()[0], "w", completed(item(0)))

    monkeypatch.setattr("tuner.execute.folder_engine.time.sleep", sleep)
    assert len(list(one.run([item(0)], env))) == 1
    one.close()
    assert on_cpu._tasks == []


def test_contents_are_kept_once(tmp_path):
    run = RunFolder(tmp_path / "run-x")
    run.make()
    (tmp_path / "a").write_bytes(b"same")
    (tmp_path / "b").write_bytes(b"same")
    assert run.blobs.put(tmp_path / "a") == run.blobs.put(tmp_path / "b")
    assert len(list(run.blobs.folder.iterdir())) == 1
    write_bytes(tmp_path / "c", b"other")
    run.blobs.fetch(run.blobs.put(tmp_path / "a"), tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == b"same"
