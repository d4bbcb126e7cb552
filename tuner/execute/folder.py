"""A folder that machines share, as the place where one command hands out trials and workers (`tuner worker`) take them.

    DIR/workers/<worker>.json                  a worker's sign of life, with how many trials it takes at once
    DIR/gpus/<gpu>.lock                        who has a GPU to itself: a lock between workers of one machine
    DIR/run-<name>-<hash>/coordinator.json     the command's sign of life, and the versions that workers must have
                          memory.json          what the memory of trials is foreseen by
                          jobs/<job>.json      what is to be done
                          leases/<job>.json    who does it: made by one worker alone (O_EXCL), renewed every few seconds
                          news/<job>.<worker>.json   how far a trial is; .pt: its best weights so far
                          answers/<job>.<worker>.json
                          blobs/<sha256>       contents of files

Nothing between machines rests on locks, on modification times or on the machines' clocks: a file is written whole and
renamed (but for a lease that is renewed, which must not come back); a sign of life has a number that rises, and has
stopped when the one who looks has seen the same number for LOST_SECONDS of its own clock. A job's name holds the hash
of its content, so an answer is right whoever gave it, and whenever.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tuner.core.locks import began_at, lives, machine, make
from tuner.core.memory import NOTHING, Foreseen
from tuner.core.safe_files import parse_json, read_regular
from tuner.core.store import sha256, write_bytes, writing
from tuner.core.trial import digest
from tuner.core.values import from_json, to_json
from tuner.execute.news import News
from tuner.execute.remote import Answer, Job

BEAT_SECONDS = 2.0  # between two signs of life
LOST_SECONDS = 60.0  # without one; longer than a network file system keeps what it has read
POLL_SECONDS = 0.2  # between two looks into the folder
CHUNK = 16 << 20  # bytes that are copied between two signs of life
RUN = re.compile(r"run-[\w.-]+")


@dataclass(frozen=True)
class Sign:
    """Who lives, as its file says: `beat` rises."""

    host: str
    pid: int
    beat: int
    about: Mapping[str, Any]

    @property
    def words(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def is_dead(self) -> bool:
        """Whether its process is known to have ended: it was one of this machine."""
        return self.about.get("machine") == machine() and not lives(self.pid, str(self.about.get("began", "")))


def read_sign(path: Path) -> Sign | None:
    """Return a sign of life, or None where there is none; what cannot be read stands for one that never rises."""
    try:
        value = parse_json(read_regular(path))
        return Sign(str(value["host"]), int(value["pid"]), int(value["beat"]), value)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return Sign("", 0, -1, {})


def sign_of_life(beat: int, **about: Any) -> bytes:
    """Return the content of this process's own sign."""
    pid = os.getpid()
    who = {"host": socket.gethostname(), "machine": machine(), "pid": pid, "began": began_at(pid)}
    return json.dumps({**who, "beat": beat, **about}).encode()


@dataclass
class Watch:
    """Tells which signs of life have stopped. `lost_seconds`: of this machine's clock."""

    lost_seconds: float = LOST_SECONDS
    _seen: dict[Path, tuple[Sign, float]] = field(default_factory=dict)

    def lives(self, path: Path) -> Sign | None:
        """Return the sign in a file, or None where there is none or it has stopped."""
        sign = read_sign(path)
        if sign is None or sign.is_dead:
            return None
        now = time.monotonic()
        known = self._seen.get(path)
        if known is None or known[0] != sign:
            self._seen[path] = (sign, now)
            return sign
        return sign if now - known[1] <= self.lost_seconds else None

    def forget(self, path: Path) -> None:
        """Forget what was seen of a file that is deleted: another under its name is a new one."""
        self._seen.pop(path, None)


@dataclass(frozen=True)
class FolderBlobs:
    """Contents as files named by their sha256. `tick`: called between two parts of a large one."""

    folder: Path
    tick: Callable[[], None] = lambda: None

    def put(self, path: Path) -> str:
        found = sha256(path)
        if not (self.folder / found).exists():
            with writing(self.folder / found):
                temporary = self.folder / f".{found}.{secrets.token_hex(4)}.tmp"
                try:
                    self.copy(path, temporary)
                    os.replace(temporary, self.folder / found)
                finally:
                    temporary.unlink(missing_ok=True)
        return found

    def fetch(self, digest: str, to: Path) -> None:
        self.copy(self.folder / digest, to)

    def drop(self, digest: str) -> None:
        (self.folder / digest).unlink(missing_ok=True)

    def copy(self, source: Path, to: Path) -> None:
        """Copy a file, piece by piece."""
        with open(source, "rb") as read, open(to, "wb") as write:
            while part := read.read(CHUNK):
                write.write(part)
                self.tick()
            write.flush()
            os.fsync(write.fileno())


@dataclass(frozen=True)
class RunFolder:
    """One command's part of the shared folder."""

    path: Path

    @classmethod
    def of(cls, root: Path, run: Path) -> RunFolder:
        """Return the folder of a run: the same for the same command, given again."""
        name = re.sub(r"[^\w.-]", "-", run.resolve().name)
        return cls(root / f"run-{name}-{hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:8]}")

    @property
    def coordinator(self) -> Path:
        return self.path / "coordinator.json"

    @property
    def blobs(self) -> FolderBlobs:
        return FolderBlobs(self.path / "blobs")

    def foresee(self, foreseen: Foreseen) -> None:
        """Have every worker know what is known of the memory of trials."""
        write_bytes(self.path / "memory.json", json.dumps(to_json(foreseen)).encode())

    def foreseen(self) -> Foreseen:
        """Return what is known of the memory of trials, as far as anything is."""
        with contextlib.suppress(OSError, ValueError):
            return from_json(Foreseen, parse_json(read_regular(self.path / "memory.json")))
        return NOTHING

    def lease(self, name: str) -> Path:
        return self.path / "leases" / f"{name}.json"

    def offer(self, job: Job, number: int) -> str:
        """Write a job, unless it is there; return its name, by which jobs are taken in order."""
        name = f"{number:06d}-{digest(job.to_json())[:24]}"
        path = self.path / "jobs" / f"{name}.json"
        if not path.exists():
            write_bytes(path, json.dumps(job.to_json(), allow_nan=False).encode())
        return name

    def open_jobs(self) -> list[str]:
        """Return the names of the jobs that nobody has taken or answered, in order."""
        answered = {name for name, _ in self.answers()}
        done = answered | set(self.taken())
        return [name for name in _stems(self.path / "jobs") if name not in done]

    def taken(self) -> list[str]:
        """Return the names of the jobs that somebody has a lease on."""
        return _stems(self.path / "leases")

    def make(self) -> None:
        """Make the folders; nobody makes them but the command, or they would come back after it has removed them."""
        with writing(self.path):
            for name in ("jobs", "leases", "news", "answers", "blobs"):
                (self.path / name).mkdir(parents=True, exist_ok=True)

    def forget_jobs(self) -> None:
        """Forget what a command that was killed had offered; who works on it goes on, as the next may want it too."""
        for name in _stems(self.path / "jobs"):
            (self.path / "jobs" / f"{name}.json").unlink(missing_ok=True)

    def job(self, name: str) -> Job | None:
        """Return a job, or None where it has been withdrawn."""
        with contextlib.suppress(FileNotFoundError):
            return Job.from_json(parse_json(read_regular(self.path / "jobs" / f"{name}.json")))
        return None

    def withdraw(self, name: str) -> None:
        """Take a job back: whoever works on it finds its lease gone."""
        news = (self.path / "news").glob(f"{name}.*")
        for path in (self.path / "jobs" / f"{name}.json", self.lease(name), *news):
            path.unlink(missing_ok=True)

    def tell(self, name: str, worker: str, news: News, weights: Path | None, tick: Callable[[], None]) -> None:
        """Replace what a worker has told of a job; where the command has gone there is nobody to tell."""
        path = self._news(name, worker)
        with contextlib.suppress(OSError):
            if weights is not None:
                _put(path.with_suffix(".pt"), lambda to: replace(self.blobs, tick=tick).copy(weights, to))
            _put(path, lambda to: to.write_text(json.dumps(news.to_json(), allow_nan=False)))

    def news(self, name: str, worker: str) -> News | None:
        """Return what a worker has told of a job; None: nothing yet."""
        with contextlib.suppress(OSError, ValueError):
            return News.from_json(parse_json(read_regular(self._news(name, worker))))
        return None

    def fetch_weights(self, name: str, worker: str, to: Path) -> None:
        """Write the best weights that a worker has told of; FileNotFoundError: there are none."""
        self.blobs.copy(self._news(name, worker).with_suffix(".pt"), to)

    def _news(self, name: str, worker: str) -> Path:
        return self.path / "news" / f"{name}.{worker}.json"

    def answer(self, name: str, worker: str, answer: Answer) -> None:
        content = json.dumps(answer.to_json(), allow_nan=False).encode()
        write_bytes(self.path / "answers" / f"{name}.{worker}.json", content)

    def answers(self) -> Iterator[tuple[str, Path]]:
        """Yield (job, file) of the answers; there may be several to one job."""
        for stem in _stems(self.path / "answers"):
            yield stem.partition(".")[0], self.path / "answers" / f"{stem}.json"

    def remove(self) -> None:
        self.coordinator.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)


def _put(path: Path, write: Callable[[Path], object]) -> None:
    """Replace a file by what `write` makes, and make no folder for it."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def take(path: Path, content: bytes) -> bool:
    """Make a lease; return False where another has it, or the command has gone.

    Raises:
        EnvironmentProblem: the folder cannot be written.
    """
    with writing(path), contextlib.suppress(FileNotFoundError):
        return make(path, content)
    return False


def renew(path: Path, content: bytes) -> None:
    """Renew a lease, in its place: one that was taken back meanwhile stays away."""
    with contextlib.suppress(OSError), open(os.open(path, os.O_WRONLY), "wb") as file:
        file.write(content)
        file.truncate()


def run_folders(root: Path) -> list[RunFolder]:
    """Return the commands that have left a sign in a shared folder, alive or not."""
    with contextlib.suppress(FileNotFoundError):
        names = sorted(entry.name for entry in os.scandir(root) if RUN.fullmatch(entry.name))
        found = [RunFolder(root / name) for name in names]
        return [folder for folder in found if folder.coordinator.exists()]
    return []


def _stems(folder: Path) -> list[str]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(name[: -len(".json")] for name in names if name.endswith(".json") and not name.startswith("."))
