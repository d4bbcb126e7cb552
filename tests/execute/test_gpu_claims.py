"""Workers on one machine with (invented) GPUs: each has its own, unless it is asked to share."""

import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest

from tests.execute.test_folder import completed, item
from tuner.core.errors import EnvironmentProblem
from tuner.core.inventory import Gpu, Inventory
from tuner.core.trial import TrialEnv, WorkItem
from tuner.execute import gpu_claims
from tuner.execute.folder import RunFolder
from tuner.execute.folder_engine import FolderExecutor, Shared
from tuner.execute.folder_worker import FolderWorker, Patience
from tuner.execute.gpu_claims import GpuClaims
from tuner.execute.slots import Wish

GPUS = tuple(Gpu(str(index), "H100", 80 << 30, 80 << 30, f"GPU-{index}aa") for index in range(4))
MACHINE = Inventory(64, 512 << 30, GPUS)


def worker(folder, wish=Wish(per_device=1), machine=MACHINE, **more):  # noqa: B008
    return FolderWorker(folder, machine, wish, Patience(linger=0.0), lambda text: None, **more)


def names(claims):
    return [gpu.name for gpu in claims.own]


def test_workers_of_one_machine_share_no_gpu_and_use_all_that_they_may(tmp_path, monkeypatch):
    """What trains is invented as well: it holds its GPU for a moment, and answers."""
    held, most, used, lock = Counter(), [], {}, threading.Lock()

    def train(job, blobs, outfit):
        with lock:
            held[outfit.gpu] += 1
            most.append(max(held.values()))
            used.setdefault(outfit.gpu, set()).add(threading.current_thread().name)
        time.sleep(0.02)
        with lock:
            held[outfit.gpu] -= 1
        return completed(WorkItem.from_json(job.value))

    monkeypatch.setattr("tuner.execute.folder_worker.carry_out", train)
    monkeypatch.setattr("tuner.execute.folder_worker.POLL_SECONDS", 0.01)
    monkeypatch.setattr("tuner.execute.folder_engine.POLL_SECONDS", 0.01)
    threads = []
    for wish in (Wish(workers=1, per_device=1), Wish(workers=2, per_device=1), Wish(per_device=1)):
        threads.append(threading.Thread(target=worker(tmp_path / "share", wish).work))
        threads[-1].start()
        while len(list((tmp_path / "share").glob("workers/*.json"))) < len(threads):
            time.sleep(0.01)
    one = FolderExecutor(Wish("cuda"), Shared(tmp_path / "share"), lambda progress: None)
    items = [WorkItem(replace(item(number).spec, device="cuda"), number) for number in range(24)]
    assert len(list(one.run(items, TrialEnv(tmp_path, tmp_path / "runs/t/coarse")))) == 24
    assert len(one.slots) == 4
    one.close()
    for thread in threads:
        thread.join(timeout=30)
    assert max(most) == 1 and set(used) == {"0", "1", "2", "3"}


def test_a_worker_that_finds_no_gpu_says_who_has_them_and_one_that_shares_does_not_ask(tmp_path):
    first = worker(tmp_path)
    assert len(first._plan()) == 4
    with pytest.raises(
        EnvironmentProblem, match=r"all GPUs are another worker's here: 0 \(worker .*, process \d+\), 1 "
    ):
        worker(tmp_path).work()
    assert [slot.gpu for slot in worker(tmp_path, share_gpus=True)._plan()] == ["0", "1", "2", "3"]
    first._end()
    assert len(worker(tmp_path)._plan()) == 4


def test_named_devices_are_claimed_and_no_others(tmp_path):
    first, second = worker(tmp_path, Wish("cuda:1,cuda:3")), worker(tmp_path)
    assert [slot.gpu for slot in first._plan()] == ["1", "3"]
    assert [slot.gpu for slot in second._plan()] == ["0", "2"]
    with pytest.raises(EnvironmentProblem, match=r"all GPUs are another worker's here: 1 "):
        worker(tmp_path, Wish("cuda:1"))._plan()


def test_a_worker_claims_nothing_while_it_works_that_it_does_not_use(tmp_path):
    first, second = worker(tmp_path, Wish("cuda:0")), worker(tmp_path)
    first._slots, second._slots = first._plan(), second._plan()
    first._end()
    assert second._fit(RunFolder(tmp_path / "run-t")) == 3
    assert names(second._claims) == ["1", "2", "3"]


def test_trials_on_several_devices_have_more_claimed(tmp_path):
    one = worker(tmp_path, Wish(workers=1))
    assert [slot.gpu for slot in one._plan()] == ["0"]
    one._wish = replace(one.wish, devices=2)
    assert [slot.gpu for slot in one._plan()] == ["0,1"]
    assert names(one._claims) == ["0", "1"]


def test_a_worker_on_the_cpu_claims_none(tmp_path):
    assert worker(tmp_path, Wish("cpu", workers=2))._plan().device == "cpu"
    assert not (tmp_path / "gpus").exists()


def test_a_gpu_is_known_by_its_own_id_whatever_number_a_job_gives_it(tmp_path, monkeypatch):
    first, second = GpuClaims(tmp_path, "first"), GpuClaims(tmp_path, "second")
    first.claim([Gpu("0", "H100", 1, 1, "GPU-a")], None)
    second.claim([Gpu("0", "H100", 1, 1, "GPU-b")], None)
    with pytest.raises(EnvironmentProblem, match="all GPUs are another worker's here: 1 \\(second\\)"):
        GpuClaims(tmp_path, "third").claim([Gpu("1", "H100", 1, 1, "GPU-b")], None)
    unnamed = [Gpu("0", "H100", 1, 1)]
    GpuClaims(tmp_path, "fourth").claim(unnamed, None)
    monkeypatch.setattr(gpu_claims.socket, "gethostname", lambda: "another")
    elsewhere = GpuClaims(tmp_path, "fifth")
    elsewhere.claim(unnamed, None)
    assert names(elsewhere) == ["0"]


def test_the_gpus_of_a_worker_that_was_killed_are_free(tmp_path):
    code = f"""
import time
from pathlib import Path
from tuner.core.inventory import Gpu
from tuner.execute.gpu_claims import GpuClaims
claims = GpuClaims(Path({str(tmp_path)!r}), "killed")
claims.claim([Gpu("0", "H100", 1, 1, "GPU-a")], None)
print("has it", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    mine = GpuClaims(tmp_path, "mine")
    with pytest.raises(EnvironmentProblem, match=r"0 \(killed\)"):
        mine.claim([Gpu("0", "H100", 1, 1, "GPU-a")], None)
    process.kill()
    process.wait()
    mine.claim([Gpu("0", "H100", 1, 1, "GPU-a")], None)
    assert names(mine) == ["0"]
