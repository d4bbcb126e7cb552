"""Data that is not kept decoded: read through torch's DataLoader, in this process or in loader processes."""

import os
import shutil
import signal
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tuner.core.errors import EnvironmentProblem, InputError, UserCodeError
from tuner.core.trial import TrialEnv, TrialSpec, WorkItem
from tuner.execute.processes import ProcessExecutor
from tuner.execute.slots import Wish
from tuner.recipe.model import Recipe
from tuner.train import prepare, stores
from tuner.train.data import load_data
from tuner.train.trial import run_trial

MINE = """
import os, random, time
import numpy as np
import torch
from torch.utils.data import Dataset

class Rows(Dataset):
    def __init__(self, n, broken=None, noise=0.0, pids=""):
        self.n, self.broken, self.noise, self.pids = n, broken, noise, pids

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if self.pids and os.getpid() != READER:
            open(os.path.join(self.pids, str(os.getpid())), "w").close()
            time.sleep(0.05)
        if i == self.broken and os.getpid() != READER:
            raise KeyError(f"no row {i}")
        x = torch.arange(4.0) + (i % 2)
        return x + self.noise * (torch.rand(4) + random.random() + np.random.rand()), i % 2

READER = os.getpid()

def load(**args):
    return Rows(64, **args), Rows(32)
"""


def tables(**data):
    raw = {"name": "t", "data": {"source": "mine.py:load", **data}, "model": {"name": "mlp", "width": 4, "depth": 1}}
    return Recipe.model_validate({**raw, "train": {"batch_size": 8}}).tables()


@pytest.fixture
def env(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return TrialEnv(tmp_path, tmp_path / "stage", "cpu", tmp_path / "cache")


def epoch(env, epoch=1, **data):
    return list(load_data(tables(**data), env).epoch(0, epoch, 8))


def equal(ours, theirs):
    return len(ours) == len(theirs) and all(
        torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(ours, theirs, strict=True)
    )


def test_loader_processes_give_the_batches_that_the_trials_own_process_gives(env):
    assert equal(epoch(env), epoch(env, loader_workers=2))


def test_random_reads_in_loader_processes_follow_from_the_seed_and_the_epoch(env):
    first, again, next_epoch = (epoch(env, which, noise=1.0, loader_workers=2) for which in (1, 1, 2))
    assert equal(first, again) and not equal(first, next_epoch)


def test_two_loader_processes_draw_different_numbers(env):
    (x, y), (u, v) = epoch(env, noise=1.0, loader_workers=2)[:2]  # one batch of each process
    assert not torch.equal((x - y[:, None]).sort(0).values, (u - v[:, None]).sort(0).values)


def test_an_error_in_a_loader_process_names_the_index_and_the_line(env):
    message = r"mine.py:\d+: data.source mine.py:load: train\[13\] raised KeyError: 'no row 13'"
    with pytest.raises(UserCodeError, match=message):
        epoch(env, broken=13, loader_workers=2)


def test_a_trial_in_a_worker_process_can_have_loader_processes(env):
    spec = TrialSpec(tables(loader_workers=2), {}, 0, horizon_epochs=2)
    alone = run_trial(WorkItem(TrialSpec(tables(), {}, 0, horizon_epochs=2), 0), env)
    executor = ProcessExecutor(Wish(workers=1), lambda progress: None)
    (result,) = executor.run([WorkItem(spec, 0)], env)
    executor.close()
    assert result.status == alone.status == "completed", result.error
    assert result.curve == alone.curve


def test_loader_processes_die_with_a_killed_worker(env, tmp_path):
    pids = tmp_path / "pids"
    pids.mkdir()
    killed = []

    def hear(progress):
        if not killed and (found := [int(path.name) for path in pids.iterdir()]):
            killed.append(parent_of(found[0]))
            os.kill(killed[0], signal.SIGKILL)

    executor = ProcessExecutor(Wish(workers=1), hear)
    (result,) = executor.run(
        [WorkItem(TrialSpec(tables(loader_workers=2, pids=str(pids)), {}, 0, horizon_epochs=4), 0)], env
    )
    executor.close()
    assert killed and result.status == "completed", result.error
    until = time.monotonic() + 5
    while (alive := [path.name for path in pids.iterdir() if Path("/proc", path.name).exists()]) and (
        time.monotonic() < until
    ):
        time.sleep(0.05)
    assert alive == []


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


# --- image folders -------------------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path):
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(12):
            pixels = np.random.default_rng(100 * label + i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i:02}.png")
    return {"source": "image_folder", "root": str(tmp_path / "images")}


@pytest.mark.parametrize("loader_workers", [0, 2])
def test_an_image_folder_that_is_not_kept_gives_the_same_batches(env, images, loader_workers):
    kept = epoch(env, **images)
    assert list((env.cache_dir / "decoded").glob("*.npy"))
    shutil.rmtree(env.cache_dir)
    assert equal(kept, epoch(env, **images, cache=False, loader_workers=loader_workers))
    assert not list(env.cache_dir.rglob("*.npy"))


def full_disk(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**9, 10**9 - 1000, 1000))


def test_an_image_folder_streams_where_the_disk_has_no_room_and_says_so(env, images, monkeypatch):
    kept = epoch(env, **images)
    shutil.rmtree(env.cache_dir)
    monkeypatch.setattr(prepare, "_memo", {})
    full_disk(monkeypatch)
    said = []
    data = load_data(tables(**images), env, on_progress=lambda share, words: said.append(words))
    assert equal(kept, list(data.epoch(0, 1, 8)))
    assert any("not kept decoded, read again in every epoch" in words for words in said), said


def test_a_full_disk_is_an_error_where_the_user_wants_the_data_kept(env, images, monkeypatch):
    full_disk(monkeypatch)
    with pytest.raises(EnvironmentProblem, match=r"disk full: the decoded data need"):
        load_data(tables(**images, cache=True), env)


def test_a_broken_image_of_a_stream_is_named_by_its_path(env, images, tmp_path):
    data = load_data(tables(**images, cache=False), env)
    (tmp_path / "images" / "dog" / "03.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"dog/03.png: not a readable image"):
        [list(data.batches(split, 8)) for split in ("train", "val")]


def test_statistics_of_a_large_stream_are_taken_from_an_even_sample(env, monkeypatch):
    monkeypatch.setattr(stores, "STREAM_SAMPLE", 8)
    part = load_data(tables(), env).part("train")
    assert len(part) == 64
    assert sum(len(chunk) for chunk in part.chunks()) == 8


def test_no_examples_are_no_batches(env):
    data = load_data(tables(loader_workers=2), env)
    assert list(data.batches("train", 8, torch.empty(0, dtype=torch.int64))) == []


def test_a_large_read_is_cut_and_in_order(env, monkeypatch):
    monkeypatch.setattr(stores, "READ", 7)
    data = load_data(tables(), env)
    chosen = torch.tensor([40, 3, 2, 1, 0, 9, 11, 30, 31])
    assert torch.equal(data.inputs("train", chosen), data.part("train").store.read(chosen)[0])
