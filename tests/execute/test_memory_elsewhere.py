"""Memory on other machines: what is foreseen there, and trials that need a larger machine than their first."""

import re
import threading

import pytest

from tests.execute.test_folder import completed, item
from tuner.core.inventory import Gpu, Inventory
from tuner.core.memory import Foreseen, Measured, MemoryModel, Needs
from tuner.core.result import TrialError, TrialResult
from tuner.core.trial import TrialEnv, WorkItem
from tuner.execute.folder import FolderBlobs, RunFolder, sign_of_life
from tuner.execute.folder_engine import FolderExecutor, Shared
from tuner.execute.folder_worker import FolderWorker, Patience
from tuner.execute.ray_engine import Cluster, RayExecutor
from tuner.execute.remote import Answer, Outfit, carry_out, job_of
from tuner.execute.slots import Slot, Wish, memory_of

GB = 10**9
LARGE = MemoryModel((Measured(Needs(0, 1e6), 3.0, ((16, 31 * GB), (64, 31 * GB))),))  # of whatever batch


@pytest.fixture
def env(tmp_path):
    return TrialEnv(tmp_path, tmp_path / "runs/t/coarse")


@pytest.fixture
def engine(tmp_path):
    one = FolderExecutor(Wish("cpu"), Shared(tmp_path / "share"), lambda progress: None)
    yield one
    one.close()


def out_of_memory(item, had):
    error = TrialError("oom", f"not started: needs more than {had}")
    result = TrialResult(item.spec.id, item.until_epoch, "failed", error=error)
    return Answer("result", result.to_json(), memory_bytes=had)


def machine(folder, memory):
    return FolderWorker(folder, Inventory(1, memory), Wish("cpu"), Patience(linger=0.0), lambda text: None)


def working(monkeypatch, *workers):
    """Have workers of invented machines work, where trials that have less than 20 GB run out of memory."""
    had = []

    def train(job, blobs, outfit):
        had.append(outfit.memory_bytes)
        asked = WorkItem.from_json(job.value)
        return completed(asked) if outfit.memory_bytes > 20 * GB else out_of_memory(asked, outfit.memory_bytes)

    monkeypatch.setattr("tuner.execute.folder_worker.carry_out", train)
    monkeypatch.setattr("tuner.execute.folder_worker.POLL_SECONDS", 0.01)
    monkeypatch.setattr("tuner.execute.folder_engine.POLL_SECONDS", 0.01)
    threads = [threading.Thread(target=one.work) for one in workers]
    for thread in threads:
        thread.start()
    return had, threads


def test_what_is_too_large_for_one_machine_runs_on_a_larger_one(tmp_path, env, engine, monkeypatch):
    small, large = machine(tmp_path / "share", 10 * GB), machine(tmp_path / "share", 30 * GB)
    small._show()
    large._show()
    _, threads = working(monkeypatch, small, large)
    results = list(engine.run([item(number) for number in range(6)], env))
    engine.close()
    for thread in threads:
        thread.join(timeout=30)
    assert [result.status for result in results] == ["completed"] * 6


def test_what_no_machine_can_hold_is_reported_after_one_try_on_each_size(tmp_path, env, engine, monkeypatch):
    workers = [machine(tmp_path / "share", memory * GB) for memory in (10, 10, 15)]
    for one in workers:
        one._show()
    had, threads = working(monkeypatch, *workers)
    (result,) = engine.run([item(0)], env)
    engine.close()
    for thread in threads:
        thread.join(timeout=30)
    assert result.error.kind == "oom" and result.error.message == f"not started: needs more than {15 * GB}"
    assert had in ([10 * GB, 15 * GB], [15 * GB])


def test_a_trial_that_waits_for_a_larger_machine_is_reported_where_that_is_gone(tmp_path, env, engine, monkeypatch):
    run, large, looks = RunFolder.of(tmp_path / "share", tmp_path / "runs/t"), tmp_path / "share/workers/large.json", []
    monkeypatch.setattr("tuner.execute.folder_engine.BEAT_SECONDS", 0.0)

    def sleep(seconds):
        looks.append(run.job(run.open_jobs()[0]).more_than_bytes)
        if len(looks) == 1:
            large.parent.mkdir()
            large.write_bytes(sign_of_life(1, memory_bytes=30 * GB))
            run.answer(run.open_jobs()[0], "small", out_of_memory(item(0), 10 * GB))
        elif len(looks) == 3:
            large.unlink()

    monkeypatch.setattr("tuner.execute.folder_engine.time.sleep", sleep)
    (result,) = engine.run([item(0)], env)
    assert result.error.kind == "oom" and looks == [0, 10 * GB, 10 * GB]
    assert run.open_jobs() == []


def test_what_a_larger_machine_has_answered_counts_though_it_is_gone(tmp_path, env, engine, monkeypatch):
    run, large = RunFolder.of(tmp_path / "share", tmp_path / "runs/t"), tmp_path / "share/workers/large.json"
    monkeypatch.setattr("tuner.execute.folder_engine.BEAT_SECONDS", 0.0)
    most_memory, answered = engine._most_memory, []

    def most():
        if large.exists() and engine._lacked and not answered:
            large.unlink()
            answered.extend(run.open_jobs())
            run.answer(answered[0], "large", completed(item(0)))
        return most_memory()

    def sleep(seconds):
        if not large.exists() and not answered:
            large.parent.mkdir()
            large.write_bytes(sign_of_life(1, memory_bytes=30 * GB))
            run.answer(run.open_jobs()[0], "small", out_of_memory(item(0), 10 * GB))

    monkeypatch.setattr(engine, "_most_memory", most)
    monkeypatch.setattr("tuner.execute.folder_engine.time.sleep", sleep)
    (result,) = engine.run([item(0)], env)
    assert result.status == "completed" and len(answered) == 1


def test_a_trial_that_cannot_fit_its_machine_is_not_started_there(tmp_path):
    (tmp_path / "blobs").mkdir()
    blobs, env = FolderBlobs(tmp_path / "blobs"), TrialEnv(tmp_path, tmp_path / "run/coarse")
    outfit = Outfit(memory_bytes=24 * GB, foreseen=Foreseen(None, LARGE))
    answer = carry_out(job_of(item(0), env, blobs), blobs, outfit)
    assert answer.lacked_bytes == 24 * GB
    assert re.fullmatch(r"not started: the model at batch \d+ needs 31 GB of 24 GB", answer.value["error"]["message"])


def test_a_worker_takes_no_more_trials_than_its_memory_holds(tmp_path, env, engine, monkeypatch):
    begun = []
    monkeypatch.setattr("tuner.execute.folder_worker.Task.begin", lambda task, job: begun.append(job))
    one = FolderWorker(tmp_path / "share", Inventory(8, 16 * GB), Wish("cpu"), Patience(), lambda text: None)

    def sleep(seconds):
        engine._run.foresee(Foreseen(4 * GB, None))  # with a fifth more for the allocator, three of them
        one._take_jobs(one._current())
        raise KeyError("seen")

    monkeypatch.setattr("tuner.execute.folder_engine.time.sleep", sleep)
    with pytest.raises(KeyError):
        list(engine.run([item(number) for number in range(8)], env))
    assert len(begun) == 3 and len(one._slots) == 8


def test_a_slot_has_the_memory_of_its_smallest_device():
    gpus = tuple(Gpu(str(index), "A", 0, free * GB) for index, free in enumerate((80, 40, 24)))
    there = Inventory(8, 500 * GB, gpus)
    assert memory_of(Slot(0), there) == 500 * GB
    assert memory_of(Slot(0, "cuda", "0"), there) == 75_400_000_000
    assert memory_of(Slot(0, "cuda", "0,2"), there) == 22_200_000_000


def test_a_ray_trial_that_lacked_memory_goes_to_a_node_that_has_more_or_is_not_known(monkeypatch):
    one = RayExecutor(Wish("cpu"), Cluster(), lambda progress: None)
    nodes = [{"NodeID": name, "Resources": {"CPU": 1}} for name in ("a", "b", "c")]
    monkeypatch.setattr(one, "_nodes", lambda: nodes)
    lacks = lambda had: out_of_memory(item(0), had)  # noqa: E731
    assert one._node_with_more(completed(item(0)), "a") is None
    assert one._node_with_more(lacks(10), "a") == "b"
    assert one._node_with_more(lacks(10), "b") == "c"
    assert one._node_with_more(lacks(10), "c") is None
    one._memory["b"] = 30
    assert one._node_with_more(lacks(10), "a") == "b"
