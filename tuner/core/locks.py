"""One holder at a time: a lock on a file, or a lease file where there are no locks (NFS, FUSE, Windows).

A lock dies with its process. A lease holds its holder's host, process and time; it counts as given up when that process
is gone (on this host) or when nobody has renewed it for LEASE_SECONDS.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NO_LOCKS = {errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS}
LEASE_SECONDS = 60.0
RENEWED_SECONDS = 15.0
LOOK_SECONDS = 0.2  # between two looks at a lock that is waited for

_told: set[Path] = set()  # the folders whose lack of locks has been reported


class Held(Exception):
    """Somebody else holds the lock; `holder` says who, as far as that is known."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder or "another process"


def say(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr)


@contextmanager
def hold(
    path: Path, words: str = "", on_wait: Callable[[], None] | None = None, tell: Callable[[str], None] = say
) -> Iterator[None]:
    """Hold the lock of a file.

    `words` stand in the file for those who find it held. `on_wait`: called once where the lock is held, and then it is
    waited for; without it a held lock is an error. `tell` hears, once per folder, that there are no locks here.

    Raises:
        Held: another process has the lock, and it is not waited for.
        OSError: the file cannot be opened, or is a link.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    try:
        if _flock(handle, on_wait):
            os.ftruncate(handle, 0)
            os.write(handle, words.encode())
            yield
            return
    finally:
        os.close(handle)
    if path.parent not in _told:
        _told.add(path.parent)
        tell(f"no file locks in {path.parent}: a lease file, {path.name}.lease, keeps other commands out instead")
    with _lease(path.with_name(f"{path.name}.lease"), words, on_wait):
        yield


def _flock(handle: int, on_wait: Callable[[], None] | None) -> bool:
    """Lock a file; return False where there are no locks."""
    if fcntl is None:
        return False
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait is None:
                raise Held(os.read(handle, 4096).decode(errors="replace").strip()) from None
            on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        raise
    return True


@contextmanager
def _lease(path: Path, words: str, on_wait: Callable[[], None] | None) -> Iterator[None]:
    waiting = False
    while not _take(path, words):
        if on_wait is None:
            raise Held(str(_read(path).get("words", "")))
        if not waiting:
            on_wait()
        waiting = True
        time.sleep(LOOK_SECONDS)
    done = threading.Event()
    renewal = threading.Thread(target=_renew, args=(path, done), daemon=True)
    renewal.start()
    try:
        yield
    finally:
        done.set()
        renewal.join()
        path.unlink(missing_ok=True)


def _take(path: Path, words: str) -> bool:
    """Write the lease, unless somebody holds it; one that was given up is moved away first."""
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "at": time.time(), "words": words.strip()}
    with contextlib.suppress(FileExistsError):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with open(handle, "w") as file:
            json.dump(mine, file)
        return True
    if not _given_up(path):
        return False
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):  # another one has just done so
        os.replace(path, aside)
        aside.unlink()
    return _take(path, words)


def _given_up(path: Path) -> bool:
    """Return whether nobody holds a lease any more."""
    try:
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return True
    known = _read(path)
    here = known.get("host") == socket.gethostname() and isinstance(known.get("pid"), int)
    return age > LEASE_SECONDS or (here and not lives(known["pid"]))  # type: ignore[arg-type]


def lives(pid: int) -> bool:
    """Return whether a process of this machine lives, as far as the system says."""
    if os.name != "posix":
        return True  # there os.kill(pid, 0) would end it; the lease's age decides
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


def _read(path: Path) -> dict[str, object]:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        value = json.loads(path.read_text(errors="replace"))
        return value if isinstance(value, dict) else {}
    return {}


def _renew(path: Path, done: threading.Event) -> None:
    while not done.wait(RENEWED_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(path)
