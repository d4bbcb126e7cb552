"""The cache of decoded arrays: made once, whole or not at all."""

import errno
import os
import threading
import time

import numpy as np
import pytest

from tuner.core.errors import EnvironmentProblem
from tuner.parts.examples import Stored
from tuner.train import cache


def quiet(share: float, words: str) -> None:
    pass


def counting(key: str = "a", values=(1, 2, 3)):
    calls = []

    def make(allocate, on_progress):
        calls.append(key)
        allocate((len(values),), np.int64)[:] = values

    return Stored("numbers", {"key": key}, make), calls


def test_open_stored_makes_once_and_maps_afterwards(tmp_path):
    stored, calls = counting()
    first = cache.open_stored(stored, tmp_path, quiet)
    second = cache.open_stored(stored, tmp_path, quiet)
    assert first.tolist() == second.tolist() == [1, 2, 3]
    assert calls == ["a"]
    assert isinstance(second, np.memmap)


def test_open_stored_makes_another_file_when_the_key_differs(tmp_path):
    (one, _), (two, calls) = counting("a"), counting("b", (9,))
    cache.open_stored(one, tmp_path, quiet)
    assert cache.open_stored(two, tmp_path, quiet).tolist() == [9]
    assert calls == ["b"]


@pytest.mark.parametrize("length", [0, 5, 100, 140])
def test_open_stored_makes_it_again_when_the_file_is_torn(tmp_path, length):
    stored, calls = counting()
    cache.open_stored(stored, tmp_path, quiet)
    path = cache.cache_path(stored, tmp_path)
    assert path.stat().st_size > length
    os.truncate(path, length)
    assert cache.open_stored(stored, tmp_path, quiet).tolist() == [1, 2, 3]
    assert calls == ["a", "a"]


def test_a_write_into_the_mapping_does_not_reach_the_disk(tmp_path):
    stored, _ = counting()
    cache.open_stored(stored, tmp_path, quiet)[0] = 77
    assert cache.open_stored(stored, tmp_path, quiet).tolist() == [1, 2, 3]


def test_nothing_is_left_when_making_fails(tmp_path):
    def make(allocate, on_progress):
        allocate((10,), np.uint8)[:5] = 1
        raise RuntimeError("power cut")

    stored = Stored("broken", {}, make)
    with pytest.raises(RuntimeError, match=r"power cut"):
        cache.open_stored(stored, tmp_path, quiet)
    left = [path.name for path in (tmp_path / "decoded").iterdir() if path.suffix != ".lock"]
    assert left == []


def test_a_full_disk_is_an_environment_problem_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    stored, _ = counting()
    with pytest.raises(EnvironmentProblem, match=r"disk full while storing decoded data"):
        cache.open_stored(stored, tmp_path, quiet)
    assert [path.name for path in (tmp_path / "decoded").iterdir() if path.suffix != ".lock"] == []


def test_a_cache_folder_that_is_a_file_is_an_environment_problem(tmp_path):
    (tmp_path / "decoded").write_text("in the way")
    with pytest.raises(EnvironmentProblem, match=r"decoded data cannot be stored"):
        cache.open_stored(counting()[0], tmp_path, quiet)


def test_space_is_reserved_before_anything_is_written(tmp_path):
    sizes = []

    def make(allocate, on_progress):
        allocate((1 << 20,), np.uint8)
        (path,) = (tmp_path / "decoded").glob("*.tmp")
        sizes.append(path.stat().st_blocks * 512)

    cache.open_stored(Stored("big", {}, make), tmp_path, quiet)
    assert sizes[0] >= 1 << 20


def test_left_overs_of_a_killed_builder_are_removed(tmp_path):
    stored, _ = counting()
    path = cache.cache_path(stored, tmp_path)
    path.parent.mkdir(parents=True)
    left_over = path.with_suffix(".12345.tmp")
    left_over.write_bytes(b"half")
    cache.open_stored(stored, tmp_path, quiet)
    assert not left_over.exists() and path.exists()


def test_the_second_process_waits_and_says_so(tmp_path):
    started, heard = threading.Event(), []
    calls = []

    def slow(allocate, on_progress):
        calls.append(1)
        started.set()
        time.sleep(0.2)
        allocate((1,), np.int64)[:] = 5

    stored = Stored("slow", {}, slow)
    # flock is per open file, so two threads contend as two processes do
    first = threading.Thread(target=cache.open_stored, args=(stored, tmp_path, quiet))
    first.start()
    started.wait(5)
    array = cache.open_stored(stored, tmp_path, lambda share, words: heard.append(words))
    first.join()
    assert array.tolist() == [5] and calls == [1]
    assert heard == ["waiting for another process that decodes the same data"]


def test_cache_folder_is_the_given_one_then_the_environments(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path))
    assert cache.cache_folder() == tmp_path
    assert cache.cache_folder(tmp_path / "mine") == tmp_path / "mine"


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_an_array_that_others_can_write_is_made_again_and_closed_to_them(tmp_path, mode):
    stored, calls = counting()
    cache.open_stored(stored, tmp_path, quiet)
    path = cache.cache_path(stored, tmp_path)
    assert path.stat().st_mode & 0o777 == 0o644
    np.save(path, np.array([6, 6, 6]))
    path.chmod(mode)
    assert cache.open_stored(stored, tmp_path, quiet).tolist() == [1, 2, 3]
    assert calls == ["a", "a"] and path.stat().st_mode & 0o777 == 0o644


def test_a_link_in_the_cache_is_replaced(tmp_path):
    stored, _ = counting()
    path = cache.cache_path(stored, tmp_path)
    path.parent.mkdir()
    np.save(tmp_path / "foreign.npy", np.array([6, 6, 6]))
    path.symlink_to(tmp_path / "foreign.npy")
    assert cache.open_stored(stored, tmp_path, quiet).tolist() == [1, 2, 3]
    assert np.load(tmp_path / "foreign.npy").tolist() == [6, 6, 6]
