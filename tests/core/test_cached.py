"""The cache folder: what is listed, and that clearing it harms nobody."""

import fcntl
import multiprocessing
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tuner.core import cached
from tuner.parts.examples import Stored
from tuner.train.cache import open_stored


def quiet(share, words):
    pass


def stored(name="numbers", size=5, log=None):
    def make(allocate, on_progress):
        if log is not None:
            with open(log, "a") as file:
                file.write("made\n")
            time.sleep(0.3)
        allocate((size,), np.uint8)[:] = 7

    return Stored(name, {"root": f"/data/{name}"}, make)


def test_entries_say_source_size_and_age_the_largest_first(tmp_path):
    open_stored(stored("small"), tmp_path, quiet)
    open_stored(stored("large", 5000), tmp_path, quiet)
    (tmp_path / "downloads" / "MNIST" / "raw").mkdir(parents=True)
    (tmp_path / "downloads" / "MNIST" / "raw" / "a").write_bytes(bytes(1000))
    found = cached.entries(tmp_path)
    assert [(entry.kind, entry.source) for entry in found] == [
        ("decoded", "large /data/large"),
        ("downloaded", "MNIST"),
        ("decoded", "small /data/small"),
    ]
    assert [entry.size_bytes for entry in found] == [5128, 1000, 133]
    assert all(0 <= entry.age_seconds < 60 for entry in found)


def test_an_empty_or_missing_folder_has_no_entries(tmp_path):
    assert cached.entries(tmp_path / "nowhere") == []
    assert cached.clear(tmp_path / "nowhere") == ([], 0)


def test_clear_keeps_downloads_and_what_is_being_made(tmp_path):
    open_stored(stored("done"), tmp_path, quiet)
    (tmp_path / "downloads" / "MNIST").mkdir(parents=True)
    half = tmp_path / "decoded" / "busy-123.77.tmp"
    half.write_bytes(b"half")
    with (tmp_path / "decoded" / "busy-123.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        gone, left = cached.clear(tmp_path)
    assert ([entry.source for entry in gone], left) == (["done /data/done"], 1)
    assert half.exists() and (tmp_path / "downloads" / "MNIST").exists()
    gone, left = cached.clear(tmp_path)  # its maker has been killed
    assert ([entry.kind for entry in gone], left) == (["unfinished"], 0)


def test_an_array_that_is_mapped_survives_clearing(tmp_path):
    array = open_stored(stored("mapped", 9), tmp_path, quiet)
    cached.clear(tmp_path)
    assert array.tolist() == [7] * 9


def build(folder):
    open_stored(stored(log=folder / "log"), folder, quiet)


def test_two_processes_build_it_once(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=build, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert (tmp_path / "log").read_text() == "made\n"


def test_sizes_in_words():
    assert [cached.size_words(size) for size in (0, 999, 1000, 1.5e6, 3e9, 5e12)] == [
        "0 B",
        "999 B",
        "1 kB",
        "1.5 MB",
        "3 GB",
        "5e+03 GB",
    ]


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"TUNER_CACHE": "/data/cache"}, "/data/cache"),
        ({"TUNER_CACHE": "~/mine"}, "/home/me/mine"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/tuner"),
        ({}, "/home/me/.cache/tuner"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other cache folders")
def test_there_is_one_cache_folder(monkeypatch, variables, folder):
    from tuner.train import cache

    for name in ("TUNER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cached.cache_folder() == cache.cache_folder() == Path(folder)


def test_what_else_lies_in_the_cache_is_listed_and_cleared_too(tmp_path):
    (tmp_path / "compiled").mkdir()
    (tmp_path / "compiled" / "kernels.so").write_bytes(bytes(10))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "compiled").rename(tmp_path / "cache" / "compiled")
    assert {(entry.kind, entry.source) for entry in cached.entries(tmp_path / "cache")} == {
        ("other", "compiled"),
        ("other", "link"),
    }
    cached.clear(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == [] and (tmp_path / "elsewhere" / "kept").exists()
