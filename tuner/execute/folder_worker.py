"""`tuner worker DIR`: take leases on the trials that commands leave in a shared folder, and carry them out here."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from tuner.core.errors import EnvironmentProblem, InputError, TunerError
from tuner.core.inventory import Inventory, parse_device
from tuner.core.store import write_bytes
from tuner.execute.folder import (
    BEAT_SECONDS,
    LOST_SECONDS,
    POLL_SECONDS,
    RunFolder,
    Watch,
    read_sign,
    renew,
    run_folders,
    sign_of_life,
    take,
)
from tuner.execute.gpu_claims import GpuClaims
from tuner.execute.news import Teller
from tuner.execute.remote import Answer, Job, Outfit, carry_out
from tuner.execute.slots import Leases, Slot, Slots, Wish, chosen_gpus, memory_of, plan_slots
from tuner.execute.versions import FIX, differences, versions

Say = Callable[[str], None]


@dataclass(frozen=True)
class Patience:
    """How many seconds a worker waits: for a command, also for one that was killed (`wait`), and for the next after one
    has ended (`linger`). `lost`: without a sign of life, after which a command counts as killed.
    """

    wait: float = 600.0
    linger: float = 60.0
    lost: float = LOST_SECONDS


class Ended(BaseException):
    """The trial is not this worker's any more: its lease is gone, or the worker ends."""


@dataclass(eq=False)
class Task:
    """A job under way, in a thread: its lease is renewed from there, and its progress told.

    `key`: tells its lease from one that this worker takes on the same job later, having lost the first.
    """

    run: RunFolder
    name: str
    worker: str
    slot: Slot
    memory_bytes: int
    stop: threading.Event
    key: str = field(default_factory=partial(secrets.token_hex, 8))
    beat: int = 0
    due: float = 0.0
    began: float = field(default_factory=time.monotonic)
    error: BaseException | None = None
    outcome: str = ""  # in words; empty: it was not this worker's to the end
    thread: threading.Thread = field(init=False)

    @property
    def sign(self) -> bytes:
        return sign_of_life(self.beat, worker=self.worker, key=self.key)

    def begin(self, job: Job) -> None:
        self.thread = threading.Thread(target=self._work, args=(job,), daemon=True)
        self.thread.start()

    def _work(self, job: Job) -> None:
        with contextlib.suppress(Ended):
            try:
                self._answer(self._carried_out(job), job)
            except Exception as error:
                self.error = error

    def _carried_out(self, job: Job) -> Answer:
        blobs = replace(self.run.blobs, tick=self._tick)
        teller = Teller(lambda news, weights: self.run.tell(self.name, self.worker, news, weights, self._tick))

        def tick() -> None:
            self._tick()
            teller.tell()

        try:
            foreseen = self.run.foreseen()
            return carry_out(job, blobs, Outfit(self.slot.gpu, teller.hear, tick, self.memory_bytes, foreseen))
        except Exception as error:
            if not isinstance(error, (FileNotFoundError, TunerError)):
                self.error = error  # a bug, or this machine's disk: it ends this worker
            return Answer.raised(error)

    def _answer(self, answer: Answer, job: Job) -> None:
        self._tick(now=True)  # a job that was taken back needs no answer; nor does it have its files any more
        what = f"trial {job.value['number']} of {job.stage}" if job.task == "trial" else "check of the recipe"
        status = answer.value["status"] if answer.kind == "result" else "done" if answer.kind != "raised" else "refused"
        self.run.answer(self.name, self.worker, answer)
        self.outcome = f"{what}: {status}, {time.monotonic() - self.began:.1f} s"

    def _tick(self, now: bool = False) -> None:
        """Renew the lease when it is time.

        Raises:
            Ended: the lease is another's, or the worker ends.
        """
        if self.stop.is_set():
            raise Ended
        if not now and time.monotonic() < self.due:
            return
        if not self.has_lease():
            raise Ended
        self.beat, self.due = self.beat + 1, time.monotonic() + BEAT_SECONDS
        renew(self.run.lease(self.name), self.sign)

    def has_lease(self) -> bool:
        sign = read_sign(self.run.lease(self.name))
        return sign is not None and sign.about.get("key", self.key) == self.key  # no key: it cannot be read just now

    def take(self) -> bool:
        """Take the lease; return False where another has it, or the job was taken back meanwhile."""
        if not take(self.run.lease(self.name), self.sign):
            return False
        if self.run.job(self.name) is None:
            self.free()
            return False
        return True

    def free(self) -> None:
        """Leave the job to others, if it is still this one's."""
        if self.has_lease():
            self.run.lease(self.name).unlink(missing_ok=True)


class FolderWorker:
    """Works for one command at a time, on as many trials as this machine has slots, until there is no command left."""

    def __init__(
        self, folder: Path, inventory: Inventory, wish: Wish, patience: Patience, say: Say, share_gpus: bool = False
    ) -> None:
        self.folder = folder
        self.inventory = self._mine = inventory  # the other without the GPUs that other workers have
        self.wish = self._wish = wish  # the other with what the recipe gives to each trial
        self.patience = patience
        self.say = say
        self.name = f"{socket.gethostname()}-{secrets.token_hex(3)}"
        self.done = 0
        self._watch = Watch(patience.lost)
        self._stop = threading.Event()
        self._tasks: list[Task] = []
        self._run: RunFolder | None = None
        self._leases: Leases | None = None
        self._slots = plan_slots(inventory, wish)
        self._beat = 0
        self._due = 0.0
        self._claims = None if share_gpus else GpuClaims(folder, f"worker {self.name}, process {os.getpid()}")

    def work(self) -> None:
        """Take trials until no command is left that has any.

        Raises:
            InputError: "no command": none has come in time.
            EnvironmentProblem: a command has another Python, tuner or torch; the folder cannot be written; all GPUs
                are another worker's.
        """
        served, idle_since = False, time.monotonic()
        try:
            self._slots = self._plan()
            while True:
                self._show()
                self._reap()
                run = self._current()
                if run is not None:
                    self._take_jobs(run)
                    served, idle_since = True, time.monotonic()
                elif not self._tasks:
                    unfinished = bool(run_folders(self.folder))
                    idle = time.monotonic() - idle_since
                    if served and not unfinished:
                        if idle >= self.patience.linger:
                            self.say(f"no command is left; {self._count()} done")
                            return
                    elif idle >= self.patience.wait:
                        raise self._nobody(unfinished)
                time.sleep(POLL_SECONDS)
        finally:
            self._end()

    def _current(self) -> RunFolder | None:
        """Return the command to work for: the one so far while it lives, and has jobs or is alone."""
        alive = [run for run in run_folders(self.folder) if self._watch.lives(run.coordinator) is not None]
        if self._run in alive and (self._tasks or len(alive) == 1 or self._run.open_jobs()):  # type: ignore[union-attr]
            return self._run
        if self._tasks:
            return None  # of a command that is gone: they are finished for the case that it comes back
        chosen = next((run for run in alive if run.open_jobs()), alive[0] if alive else None)
        if chosen is not None and chosen != self._run and not self._join(chosen):
            chosen = None
        self._run = chosen
        return chosen

    def _join(self, run: RunFolder) -> bool:
        """Begin to work for a command; return False where it has just ended.

        Raises:
            EnvironmentProblem: "has another Python", or tuner, or torch.
        """
        sign = read_sign(run.coordinator)
        if sign is None:
            return False
        differs = differences(sign.about.get("versions", {}), versions())
        if differs:
            raise EnvironmentProblem(f"{sign.words}, whose trials are here, has another {differs}", FIX)
        threads, devices = (int(sign.about.get(name, 1)) for name in ("threads", "devices"))
        self._wish = replace(self.wish, threads=threads, devices=devices)
        self._slots = slots = self._plan()
        self._leases = Leases(slots)
        self.say(
            f"works for {sign.about.get('run', run.path.name)} ({sign.words}): {len(slots)} at once, on {slots.device}"
        )
        return True

    def _plan(self) -> Slots:
        """Return the slots here, on GPUs that no other worker has: they are claimed, as many as it takes."""
        kind, indices = parse_device(self._wish.device)
        gpus = chosen_gpus(self.inventory, indices, self._wish.device)
        if self._claims is not None and kind in ("auto", "cuda") and gpus:
            workers, each = self._wish.workers, self._wish.per_device or 1
            self._claims.claim(gpus, None if workers is None else math.ceil(workers / each) * self._wish.devices)
            self._mine = replace(self.inventory, gpus=tuple(self._claims.own))
            self._wish = replace(self._wish, device="cuda")
        return plan_slots(self._mine, self._wish)

    def _fit(self, run: RunFolder) -> int:
        """Return how many trials the memory here holds at once, by what is known of them."""
        return len(plan_slots(self._mine, self._wish, run.foreseen().step_bytes))

    def _take_jobs(self, run: RunFolder) -> None:
        assert self._leases is not None
        if len(self._tasks) >= len(self._slots):
            return
        most = min(len(self._slots), self._fit(run))
        for name in run.open_jobs():
            slot = self._leases.take() if len(self._tasks) < most else None
            if slot is None:
                return
            task = Task(run, name, self.name, slot, memory_of(slot, self.inventory), self._stop)
            job = run.job(name)
            fits = job is not None and job.device in ("auto", slot.device) and task.memory_bytes > job.more_than_bytes
            if job is None or not fits or not task.take():
                self._leases.give_back(slot)
                continue
            self._tasks.append(task)
            task.begin(job)

    def _reap(self) -> None:
        """Take leave of jobs that have ended; raise what one met that is no fault of its trial."""
        for task in [task for task in self._tasks if not task.thread.is_alive()]:
            self._tasks.remove(task)
            assert self._leases is not None
            self._leases.give_back(task.slot)
            if task.error is not None:
                task.free()
                raise task.error
            self.say(task.outcome or f"{task.name}: given up, its lease is gone")
            self.done += bool(task.outcome)

    def _show(self) -> None:
        """Renew this worker's own sign of life."""
        if time.monotonic() < self._due:
            return
        self._due, self._beat = time.monotonic() + BEAT_SECONDS, self._beat + 1
        path = self.folder / "workers" / f"{self.name}.json"
        memory = max(memory_of(slot, self.inventory) for slot in self._slots)
        try:
            write_bytes(path, sign_of_life(self._beat, slots=len(self._slots), memory_bytes=memory), synced=False)
        except EnvironmentProblem:  # later, a moment's trouble of the network; the next one may go through
            if self._beat == 1:
                raise

    def _end(self) -> None:
        """End the trials, and free their leases, so that another worker need not wait for them."""
        self._stop.set()
        for task in self._tasks:
            task.thread.join(timeout=10)
            task.free()
        if self._claims is not None:
            self._claims.give_back()
        with contextlib.suppress(OSError):
            (self.folder / "workers" / f"{self.name}.json").unlink(missing_ok=True)

    def _count(self) -> str:
        return "1 job" if self.done == 1 else f"{self.done} jobs"

    def _nobody(self, unfinished: bool) -> InputError:
        if unfinished:
            text = f"{self.folder}: the command whose trials are here has not come back in {self.patience.wait:.0f} s"
            return InputError(text, "Give it again, and start workers again; --wait lets them wait longer.")
        text = f"{self.folder}: no command has come in {self.patience.wait:.0f} s"
        return InputError(text, "tuner run RECIPE --engine folder --address DIR leaves trials there.")
