"""One holder at a time: a lock on a file, or a lease file where there are no locks (NFS, FUSE, Windows).

A lock dies with its process. A lease names its holder's machine and process: it is given up when that process is gone,
or, on another machine, when it has not been renewed for LEASE_SECONDS. As clocks differ and jump, one that looks so old
is looked at again for SILENT_SECONDS, by this machine's own clock.
"""

from __future__ import annotations

import contextlib
import errno
import functools
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
SILENT_SECONDS = 20.0  # more than RENEWED_SECONDS
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
    about = {"machine": machine(), "pid": os.getpid(), "began": began_at(os.getpid()), "words": words.strip()}
    mine, waiting = json.dumps(about).encode(), False
    while not _take(path, mine):
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
        if _read(path) == about:  # it may have been taken over from a process that slept
            path.unlink(missing_ok=True)


def make(path: Path, content: bytes) -> bool:
    """Make a file that is not there yet: of all who try, one alone does; return whether it was this one.

    Raises:
        OSError: it cannot be written, and is not there.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    try:
        with open(handle, "wb") as file:
            file.write(content)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return True


def _take(path: Path, mine: bytes) -> bool:
    """Write the lease, unless somebody holds it; one that was given up is moved away first."""
    if make(path, mine):
        return True
    if not _given_up(path):
        return False
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):  # another one has just done so
        os.replace(path, aside)
        aside.unlink()
    return _take(path, mine)


def _given_up(path: Path) -> bool:
    """Return whether nobody holds a lease any more."""
    known = _read(path)
    if os.name == "posix" and known.get("machine") == machine() and isinstance(pid := known.get("pid"), int):
        return not lives(pid, str(known.get("began", "")))
    try:
        renewed = path.stat().st_mtime
        if time.time() - renewed <= LEASE_SECONDS:
            return False
        until = time.monotonic() + SILENT_SECONDS
        while time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
            if path.stat().st_mtime != renewed:
                return False
    except FileNotFoundError:
        pass
    return True


@functools.cache
def machine() -> str:
    """Name what process ids belong to: this boot of this system, and where the system says so this container."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    return socket.gethostname()


def began_at(pid: int) -> str:
    """Return when a process began, in the system's own count, which tells it from a later one with its number."""
    return _stat(pid)[1]


def _stat(pid: int) -> tuple[str, str]:
    """Return the state of a process, one letter, and when it began; empty where the system does not say."""
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[19]
    return "", ""


def lives(pid: int, began: str = "") -> bool:
    """Return whether a process of this machine lives, as far as the system says; one that has ended and is not waited
    for does not. `began`: `began_at` of it; empty: not known.
    """
    if os.name != "posix":
        return True  # there os.kill(pid, 0) would end it; the lease's age decides
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    state, found = _stat(pid)
    return state != "Z" and (not began or found in (began, ""))


def _read(path: Path) -> dict[str, object]:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        value = json.loads(path.read_text(errors="replace"))
        return value if isinstance(value, dict) else {}
    return {}


def _renew(path: Path, done: threading.Event) -> None:
    while not done.wait(RENEWED_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(path)
