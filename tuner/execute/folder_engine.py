"""Hand trials out to workers that share a folder with this command (`--engine folder --address DIR`)."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from tuner.core.errors import EnvironmentProblem, InputError
from tuner.core.inventory import parse_device
from tuner.core.memory import Foreseen
from tuner.core.preflight import Preflight
from tuner.core.result import TrialError, TrialResult
from tuner.core.safe_files import parse_json, read_regular
from tuner.core.store import write_bytes
from tuner.core.trial import Progress, TrialEnv, WorkItem
from tuner.execute.base import OnProgress
from tuner.execute.crashes import KILLED_TRIES
from tuner.execute.folder import (
    BEAT_SECONDS,
    LOST_SECONDS,
    POLL_SECONDS,
    RunFolder,
    Sign,
    Watch,
    read_sign,
    sign_of_life,
)
from tuner.execute.news import Hearing, News
from tuner.execute.remote import Answer, job_of, preflight_in, preflight_of, take_in
from tuner.execute.slots import Slot, Slots, Wish
from tuner.execute.versions import versions

LOST_HINT = "Look at what the workers said; run with --engine serial to see it happen in this process."


@dataclass(frozen=True)
class Shared:
    """The folder of `--address`, the user's files of the recipe {path: sha256}, and `--deadline`.

    `lost_seconds`: without a sign of life, after which a worker counts as gone.
    """

    folder: Path
    user_files: Mapping[str, str] = field(default_factory=dict)
    deadline: float | None = None
    lost_seconds: float = LOST_SECONDS


class FolderExecutor:
    """Writes jobs into the folder, and takes one answer to each. `wish.device`: the kind that workers must have."""

    def __init__(self, wish: Wish, shared: Shared, on_progress: OnProgress) -> None:
        self.wish = wish
        self.shared = shared
        self.on_progress = on_progress
        self._device, _ = parse_device(wish.device)
        self._watch = Watch(shared.lost_seconds)
        self._run: RunFolder | None = None
        self._over = threading.Event()
        self._heart: threading.Thread | None = None
        self._decoded: Mapping[str, str] = {}
        self._lacked: dict[str, Answer] = {}  # of jobs that are offered again, for workers with more memory
        self._numbers: dict[str, int] = {}  # of workers, in the order in which they answered
        self._alone = False  # whether nobody works here, as has been said

    @property
    def slots(self) -> Slots:
        """Return one place per trial that the workers take at once; those that come later are used as well."""
        return slots_of(self._workers(), self._device)

    def preflight(self, recipe: Mapping[str, Any], env: TrialEnv) -> Preflight:
        """Have a worker check the recipe; the first to answer says on which kind of device trials run.

        Raises:
            InputError: "is in use by": another command hands out the same run there.
        """
        run = self._opened(env)
        env = replace(env, device=self._device)
        job = preflight_of(recipe, env, run.blobs, self.shared.user_files, self.shared.deadline)
        ((_, answer),) = self._answers({run.offer(job, 0): None}, env)
        if answer is None:
            text = f"the workers that checked the recipe were lost, {KILLED_TRIES} times"
            raise EnvironmentProblem(text, LOST_HINT)
        found = preflight_in(answer)
        self._device, self._decoded = found.device, answer.files
        run.foresee(Foreseen(found.peak_memory_bytes, None if found.room is None else found.room.model))
        return found

    def run(self, items: Sequence[WorkItem], env: TrialEnv) -> Iterator[TrialResult]:
        run = self._opened(env)
        env = replace(env, device=self._device)
        jobs = [job_of(item, env, run.blobs, self._decoded, self.shared.deadline) for item in items]
        by_name = {run.offer(job, item.number): (item, job) for item, job in zip(items, jobs, strict=True)}
        wanted: dict[str, WorkItem | None] = {name: item for name, (item, _) in by_name.items()}
        for name, answer in self._answers(wanted, env):
            item, job = by_name.pop(name)
            answer = answer or self._lacked.pop(name, None)
            if answer is None:
                yield _lost(item)
                continue
            if answer.lacked_bytes is not None and self._most_memory() > answer.lacked_bytes:
                job = replace(job, more_than_bytes=answer.lacked_bytes)
                name = run.offer(job, item.number)
                by_name[name], wanted[name], self._lacked[name] = (item, job), item, answer
                continue
            self._lacked.pop(name, None)
            result = take_in(answer, item, env, run.blobs)
            needed = {digest for _, other in by_name.values() for digest in other.files.values()}
            for digest in {*answer.files.values(), *job.files.values()} - needed:
                run.blobs.drop(digest)
            yield result

    def close(self) -> None:
        """Tell the workers that this command has ended, by removing its folder."""
        self._over.set()
        if self._heart is not None:
            self._heart.join()
            self._heart = None
        if self._run is not None:
            self._run.remove()
            self._run = None

    def _answers(self, wanted: dict[str, WorkItem | None], env: TrialEnv) -> Iterator[tuple[str, Answer | None]]:
        """Yield (job, Answer) of each as it comes, None where its workers were lost again and again; withdraw the rest.

        `wanted`: {job: its trial, if it is one}.
        """
        run, lost, looked, hearing = self._run, Counter[str](), 0.0, Hearing(env, self.on_progress)
        assert run is not None
        try:
            while wanted:
                for name, path in run.answers():
                    if name in wanted and (answer := self._read(path, name, lost)) is not None:
                        del wanted[name]
                        try:
                            yield name, answer
                        finally:
                            run.withdraw(name)
                            path.unlink(missing_ok=True)
                if time.monotonic() >= looked:
                    under_way = self._look_after(run, wanted, lost)
                    if self._alone and wanted:  # the time of the run passes all the same
                        hearing(next(iter(wanted.values())), News(note="waits for a worker"), lambda path: None)
                    for name, worker in under_way:
                        if (news := run.news(name, worker)) is not None:
                            hearing(wanted[name], news, partial(run.fetch_weights, name, worker))
                    looked = time.monotonic() + BEAT_SECONDS / 2
                for name in [name for name in wanted if lost[name] >= KILLED_TRIES]:
                    del wanted[name]
                    run.withdraw(name)
                    yield name, None
                if wanted:
                    time.sleep(POLL_SECONDS)
        finally:
            for name in wanted:
                run.withdraw(name)

    def _read(self, path: Path, name: str, lost: Counter[str]) -> Answer | None:
        """Return an answer whose files have arrived whole; one that stays without them is thrown away."""
        assert self._run is not None
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            answer = Answer.from_json(parse_json(read_regular(path)))
            if all((self._run.blobs.folder / digest).exists() for digest in answer.files.values()):
                return replace(answer, value=self._with_worker(answer, path))
        if self._watch.lives(path) is None:
            self._again(name, lost)
            path.unlink(missing_ok=True)
            self._watch.forget(path)
        return None

    def _with_worker(self, answer: Answer, path: Path) -> Mapping[str, Any]:
        """Return the value of an answer: of a result with the number of the worker, of an error with its name."""
        worker = path.stem.partition(".")[2]
        number = self._numbers.setdefault(worker, len(self._numbers) + 1)
        if answer.kind == "result":
            return {**answer.value, "worker": number}
        if answer.kind == "raised" and answer.value["error"] == EnvironmentProblem.__name__:
            return {**answer.value, "message": f"worker {worker}: {answer.value['message']}"}
        return answer.value

    def _look_after(self, run: RunFolder, wanted: Collection[str], lost: Counter[str]) -> list[tuple[str, str]]:
        """Return (job, worker) of what is under way, free what workers had that are gone, say where there is none."""
        taken, under_way, most = False, [], self._most_memory()
        for name in run.taken():
            sign = self._watch.lives(run.lease(name))
            if sign is None:
                if name in wanted:
                    self._again(name, lost)
                continue
            taken = True
            if name in wanted:
                under_way.append((name, str(sign.about.get("worker", ""))))
        for name in self._lacked.keys() & set(run.open_jobs()) & set(wanted):
            if most <= (self._lacked[name].lacked_bytes or 0):  # the workers that have more are gone
                lost[name] = KILLED_TRIES
        if taken or self._workers():
            self._alone = False
        elif not self._alone:
            self._alone = True
            text = f"no worker in {self.shared.folder}: waiting for one (tuner worker {self.shared.folder})"
            self.on_progress(Progress(0, 0.0, text, lasting=True))
        return under_way

    def _again(self, name: str, lost: Counter[str]) -> None:
        """Free a job for the next worker, unless it is given up."""
        assert self._run is not None
        lost[name] += 1
        if lost[name] < KILLED_TRIES:
            self._run.lease(name).unlink(missing_ok=True)
            self._watch.forget(self._run.lease(name))

    def _workers(self) -> dict[str, Sign]:
        """Return the workers that live, by name."""
        return living_workers(self.shared.folder, self._watch)

    def _most_memory(self) -> int:
        """Return the memory (bytes) that a trial may have on the largest device of the workers that live."""
        return max((int(sign.about.get("memory_bytes", 0)) for sign in self._workers().values()), default=0)

    def _opened(self, env: TrialEnv) -> RunFolder:
        """Return the run's part of the folder, with this command's sign of life in it."""
        if self._run is not None:
            return self._run
        assert env.stage_dir is not None
        run = RunFolder.of(self.shared.folder, env.stage_dir.parent)
        _refuse_another(run, self._watch)
        about = {
            "versions": versions(),
            "threads": self.wish.threads,
            "devices": self.wish.devices,
            "run": str(env.stage_dir.parent),
        }
        run.make()
        run.forget_jobs()
        write_bytes(run.coordinator, sign_of_life(0, **about))
        self._run = run
        self._over.clear()
        self._heart = threading.Thread(target=_beat, args=(run.coordinator, about, self._over), daemon=True)
        self._heart.start()
        return run


def living_workers(folder: Path, watch: Watch) -> dict[str, Sign]:
    """Return the workers of a shared folder that live, by name."""
    signs = {path.stem: watch.lives(path) for path in (folder / "workers").glob("*.json")}
    return {name: sign for name, sign in signs.items() if sign is not None}


def slots_of(workers: Mapping[str, Sign], device: str) -> Slots:
    """Return one place per trial that workers take at once, at least one."""
    count = sum(int(sign.about.get("slots", 1)) for sign in workers.values())
    return Slots(device, tuple(Slot(index, device) for index in range(max(1, count))))


def _beat(path: Path, about: Mapping[str, Any], over: threading.Event) -> None:
    """Renew a sign of life until it is over."""
    beat = 0
    while not over.wait(BEAT_SECONDS):
        beat += 1
        with contextlib.suppress(EnvironmentProblem):  # a moment's trouble of the network; the next one may go through
            write_bytes(path, sign_of_life(beat, **about), synced=False)


def _refuse_another(run: RunFolder, watch: Watch) -> None:
    """Refuse a folder whose command lives; one that was killed is taken over, with the answers that it did not see.

    Raises:
        InputError: "is in use by".
    """
    before = read_sign(run.coordinator)
    if before is None or before.is_dead:
        return
    until = time.monotonic() + 3 * BEAT_SECONDS
    while time.monotonic() < until:
        time.sleep(POLL_SECONDS)
        now = read_sign(run.coordinator)
        if now is None:
            return
        if now.beat > before.beat >= 0:
            text = f"{run.path} is in use by {now.words}, which hands out the same run"
            raise InputError(text, "Wait for it or stop it, or give another folder with --address.")


def _lost(item: WorkItem) -> TrialResult:
    text = f"its workers were lost, {KILLED_TRIES} times: no sign of life from them, or no whole answer"
    return TrialResult(item.spec.id, item.until_epoch, "failed", error=TrialError("crash", text, LOST_HINT))
