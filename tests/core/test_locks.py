"""A lock has one holder; where the disk has no locks a lease file does the same."""

import errno
import json
import os
import resource
import socket
import subprocess
import sys
import time

import pytest

from tuner.core import locks
from tuner.core.locks import Held, hold


@pytest.fixture(params=["lock", "EOPNOTSUPP", "ENOLCK", "ENOSYS", "no fcntl"])
def disk(request, monkeypatch):
    """A disk with locks, three kinds of disk without, and a system that knows none."""
    if request.param == "no fcntl":
        monkeypatch.setattr(locks, "fcntl", None)
    elif request.param != "lock":

        def flock(handle, what):
            raise OSError(getattr(errno, request.param), "no locks")

        monkeypatch.setattr(locks.fcntl, "flock", flock)
    monkeypatch.setattr(locks, "_told", set())
    return request.param


def test_a_held_lock_names_its_holder_and_is_free_afterwards(disk, tmp_path):
    path = tmp_path / "lock"
    with hold(path, "process 1: tuner run\n"), pytest.raises(Held, match=r"^process 1: tuner run$"), hold(path):
        pass
    with hold(path, "again"):
        pass


def test_missing_locks_are_reported_once_per_folder(disk, tmp_path):
    told = []
    for _ in range(2):
        with hold(tmp_path / "lock", tell=told.append):
            pass
    where = f"no file locks in {tmp_path}: a lease file, lock.lease, keeps other commands out instead"
    assert told == ([] if disk == "lock" else [where])


@pytest.fixture
def without_locks(monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(locks, "SILENT_SECONDS", 0.0)


def lease(path, **changes):
    own = {"machine": locks.machine(), "pid": os.getpid(), "began": locks.began_at(os.getpid())}
    content = {**own, "words": "somebody", **changes}
    path.with_name("lock.lease").write_text(json.dumps(content))


def dead_process():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_the_lease_of_a_process_that_is_gone_is_taken_over(without_locks, tmp_path):
    lease(tmp_path / "lock", pid=dead_process())
    with hold(tmp_path / "lock", "mine"):
        assert json.loads((tmp_path / "lock.lease").read_text())["words"] == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"]


def test_the_lease_of_a_process_whose_number_another_has_by_now_is_taken_over(without_locks, tmp_path):
    lease(tmp_path / "lock", began="1")
    with hold(tmp_path / "lock"):
        pass


def test_the_lease_of_a_process_that_nobody_has_waited_for_is_taken_over(without_locks, tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    child.stdout.read()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    lease(tmp_path / "lock", pid=child.pid, began=locks.began_at(child.pid))
    with hold(tmp_path / "lock"):
        pass
    child.wait()


def test_the_lease_of_a_process_that_lives_here_holds_however_the_clock_jumps(without_locks, tmp_path):
    lease(tmp_path / "lock")
    os.utime(tmp_path / "lock.lease", (0, 0))
    with pytest.raises(Held, match="somebody"), hold(tmp_path / "lock"):
        pass


def test_the_lease_of_a_container_with_the_same_host_name_holds(without_locks, tmp_path):
    lease(tmp_path / "lock", machine="another", host=socket.gethostname(), pid=dead_process())
    with pytest.raises(Held, match="somebody"), hold(tmp_path / "lock"):
        pass


def test_a_lease_that_looks_old_is_held_where_it_is_renewed_while_it_is_looked_at(without_locks, tmp_path, monkeypatch):
    path = tmp_path / "lock.lease"
    lease(tmp_path / "lock", machine="another")
    os.utime(path, (0, 0))  # by a clock that is far behind
    monkeypatch.setattr(locks, "SILENT_SECONDS", 60.0)
    monkeypatch.setattr(locks.time, "sleep", lambda seconds: os.utime(path, (15, 15)))
    with pytest.raises(Held, match="somebody"), hold(tmp_path / "lock"):
        pass


def test_a_holder_whose_lease_was_taken_over_leaves_the_new_one(without_locks, tmp_path):
    with hold(tmp_path / "lock"):
        lease(tmp_path / "lock", machine="another")
    assert json.loads((tmp_path / "lock.lease").read_text())["machine"] == "another"


def test_a_lease_that_cannot_be_written_whole_is_not_there(without_locks, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"), hold(tmp_path / "lock", "words"):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "lock.lease").exists()


def test_the_lease_of_another_machine_holds_until_it_is_old(without_locks, tmp_path):
    lease(tmp_path / "lock", machine="elsewhere", pid=dead_process())
    with pytest.raises(Held, match="somebody"), hold(tmp_path / "lock"):
        pass
    old = time.time() - locks.LEASE_SECONDS - 1
    os.utime(tmp_path / "lock.lease", (old, old))
    with hold(tmp_path / "lock"):
        pass


@pytest.mark.parametrize("content", ["", "[]", "{", '{"pid": "x"}', "[" * 5000])
def test_a_damaged_lease_holds_until_it_is_old(without_locks, tmp_path, content):
    path = tmp_path / "lock.lease"
    path.write_text(content)
    with pytest.raises(Held, match="another process|^$"), hold(tmp_path / "lock"):
        pass
    os.utime(path, (0, 0))
    with hold(tmp_path / "lock"):
        pass


def test_a_lease_is_renewed_while_it_is_held(without_locks, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "RENEWED_SECONDS", 0.01)
    with hold(tmp_path / "lock"):
        os.utime(tmp_path / "lock.lease", (0, 0))
        deadline = time.monotonic() + 30
        while (tmp_path / "lock.lease").stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / "lock.lease").stat().st_mtime > 0


def test_a_lock_is_waited_for_where_that_is_asked(without_locks, tmp_path):
    path, told = tmp_path / "lock", []
    lease(path, host="elsewhere")

    def wait():
        told.append("waiting")
        (tmp_path / "lock.lease").unlink()

    with hold(path, on_wait=wait):
        assert told == ["waiting"]


def test_a_lock_that_is_a_link_is_not_opened(tmp_path):
    (tmp_path / "precious").write_text("content")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="Too many levels"), hold(tmp_path / "lock", "words"):
        pass
    assert (tmp_path / "precious").read_text() == "content"
