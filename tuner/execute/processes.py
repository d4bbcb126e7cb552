"""Run trials in worker processes that are forked, in milliseconds, from a server that has torch loaded already.

The supervisor (this side) never imports torch. A worker that dies takes only its trial with it: the trial is tried once
more, then recorded as failed. A worker that gives no sign of life, or takes far longer than it should, is killed.
A worker whose memory ran out is replaced. Workers end when the supervisor does.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from tuner.core.errors import EnvironmentProblem
from tuner.core.result import FailureKind, TrialError, TrialResult
from tuner.core.trial import TrialEnv, WorkItem
from tuner.execute import crashes
from tuner.execute.base import OnProgress
from tuner.execute.deadlines import Deadlines, words

WORKER_BYTES = 1_500_000_000  # torch, a small net and its batches; measured 0.5-0.7 GB for torch alone
DEBUG = "Run with --workers 0 to see it happen in this process."


def default_workers() -> int:
    """Return how many trials may run at once: one per core, as long as memory holds them."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(len(os.sched_getaffinity(0)), memory // WORKER_BYTES))


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tuner.execute.preload"])
    return context


@dataclass
class _Worker:
    """A live worker process, its pipe, the pipe of its stack, and what it is doing."""

    index: int
    process: Any
    pipe: Connection
    stack: Connection
    item: WorkItem | None = None
    env: TrialEnv | None = None
    started_at: float = 0.0  # the time of day, for the record
    began: float = 0.0
    heard: float = 0.0
    memory_kills: int | None = None

    def give(self, item: WorkItem, env: TrialEnv) -> None:
        self.item, self.env = item, env
        self.started_at = time.time()
        self.began = self.heard = time.monotonic()
        self.memory_kills = crashes.memory_kills()
        with contextlib.suppress(OSError):  # it has just died: its silence will be heard
            self.pipe.send(("run", item, env))


class ProcessExecutor:
    """Workers live from their first trial until `close`.

    `deadline` (seconds): how long a trial may take; None: see `Deadlines`.
    """

    def __init__(
        self,
        workers: int,
        on_progress: OnProgress,
        deadline: float | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self.workers = workers
        self.on_progress = on_progress
        self.deadlines = deadlines or Deadlines(deadline)
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._waiting: deque[WorkItem] = deque()
        self._deaths: Counter[tuple[str, int | None]] = Counter()
        self._started = 0

    def preflight(self, recipe: Mapping[str, Any], env: TrialEnv) -> dict[str, Any]:
        """Check in a worker what cannot be checked without torch; a TunerError found there is raised here."""
        died = 0
        while True:
            worker = self._free()
            self._busy.append(worker)
            worker.memory_kills = crashes.memory_kills()
            try:
                kind, value = self._tried_out(worker, recipe, env)
                break
            except OSError:
                self._bury(worker)
                died, code = died + 1, worker.process.exitcode
                if died >= crashes.tries(code, worker.memory_kills):
                    how = crashes.words(code, worker.memory_kills)
                    text = f"the worker process died while the recipe was tried out ({how})"
                    raise EnvironmentProblem(text, DEBUG) from None
        self._busy.remove(worker)
        self._idle.append(worker)
        if kind == "raised":
            raise value
        return value

    def _tried_out(self, worker: _Worker, recipe: Mapping[str, Any], env: TrialEnv) -> tuple[str, Any]:
        """Return a worker's answer to the recipe; OSError: it died."""
        worker.pipe.send(("preflight", recipe, env))
        while worker.pipe.poll(self.deadlines.silence):
            try:
                kind, value = worker.pipe.recv()
            except EOFError:
                raise ConnectionResetError from None
            if kind != "progress":
                return kind, value
            self.on_progress(value)
        where = crashes.where_it_hangs(worker.process.pid, worker.stack, env.recipe_dir)
        self._bury(worker)
        text = f"no sign of life for {words(self.deadlines.silence)} while the recipe was tried out{where}"
        raise EnvironmentProblem(text, DEBUG)

    def run(self, items: Sequence[WorkItem], env: TrialEnv) -> Iterator[TrialResult]:
        """Give the results as they come.

        Raises:
            EnvironmentProblem: a worker met a full disk or the like, which the other trials would meet as well.
        """
        self._waiting = deque(items)
        try:
            while self._waiting or self._busy:
                while self._waiting and len(self._busy) < self.workers:
                    worker = self._free()
                    self._busy.append(worker)
                    worker.give(self._waiting.popleft(), env)
                for worker in self._news():
                    result = self._hear(worker)
                    if result is not None:
                        yield result
        finally:  # the caller listens no more, or a worker raised
            for worker in list(self._busy):
                self._bury(worker)

    def close(self) -> None:
        for worker in [*self._idle, *self._busy]:
            _end(worker)
        self._idle.clear()
        self._busy.clear()

    def _free(self) -> _Worker:
        """Return an idle worker that is still alive, or a new one."""
        while self._idle:
            worker = self._idle.pop()
            if worker.process.is_alive():
                return worker
            _end(worker)
        for _ in range(3):
            try:
                return self._start()
            except (EOFError, OSError):  # the fork server was killed a moment ago; it is started again when missed
                time.sleep(0.2)
        return self._start()

    def _start(self) -> _Worker:
        from tuner.execute.worker import serve

        context = _context()
        ours, theirs = context.Pipe()
        stack, their_stack = context.Pipe(duplex=False)
        self._started += 1
        name = f"tuner-worker-{self._started}"
        process = context.Process(target=serve, args=(theirs, their_stack), name=name, daemon=True)
        process.start()
        theirs.close()
        their_stack.close()
        return _Worker(self._started, process, ours, stack)

    def _news(self) -> list[_Worker]:
        """Wait for a second at most; return the workers that said something, died, or are past a limit."""
        ready = set(wait([worker.pipe for worker in self._busy], timeout=1.0))
        return [worker for worker in list(self._busy) if worker.pipe in ready or self._exceeded(worker)]

    def _exceeded(self, worker: _Worker) -> str | None:
        assert worker.item is not None
        now = time.monotonic()
        return self.deadlines.exceeded(worker.item, now - worker.began, now - worker.heard)

    def _hear(self, worker: _Worker) -> TrialResult | None:
        """Read one message of a worker, or its death; return the result when its trial has ended."""
        assert worker.item is not None
        if not worker.pipe.poll():
            return self._hung(worker)
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, OSError):  # OSError: killed in the middle of a message
            return self._died(worker)
        worker.heard = time.monotonic()
        if kind == "progress":
            self.on_progress(value)
            return self._hung(worker) if self._exceeded(worker) else None
        if kind == "raised":
            raise value
        if value.error is not None and value.error.kind == "oom":
            self._bury(worker)  # gives all of its memory back
        else:
            self._busy.remove(worker)
            self._idle.append(worker)
        self._deaths.pop(worker.item.key, None)
        self.deadlines.learn(worker.item, value)
        return replace(value, worker=worker.index)

    def _hung(self, worker: _Worker) -> TrialResult | None:
        """Kill a worker that is past a limit, and say where it was."""
        if (why := self._exceeded(worker)) is None:
            return None
        assert worker.env is not None
        where = crashes.where_it_hangs(worker.process.pid, worker.stack, worker.env.recipe_dir)
        self._bury(worker)
        return self._failed(worker, "timeout", f"{why}; the worker was killed{where}", "--deadline allows more. ")

    def _died(self, worker: _Worker) -> TrialResult | None:
        """Give the trial of a dead worker another try, or up."""
        assert worker.item is not None
        self._bury(worker)
        exitcode, key = worker.process.exitcode, worker.item.key
        self._deaths[key] += 1
        if self._deaths[key] < crashes.tries(exitcode, worker.memory_kills):
            self._waiting.appendleft(worker.item)
            return None
        count = self._deaths.pop(key)
        times = "twice" if count == 2 else f"{count} times"
        how = crashes.words(exitcode, worker.memory_kills)
        return self._failed(worker, "crash", f"the worker process died, {times} ({how})")

    def _bury(self, worker: _Worker) -> None:
        self._busy.remove(worker)
        _end(worker)

    def _failed(self, worker: _Worker, kind: FailureKind, message: str, hint: str = "") -> TrialResult:
        assert worker.item is not None
        return TrialResult(
            id=worker.item.spec.id,
            until_epoch=worker.item.until_epoch,
            status="failed",
            wall_seconds=time.monotonic() - worker.began,
            error=TrialError(kind, message, hint + DEBUG),
            worker=worker.index,
            started_at=worker.started_at,
        )


def _end(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.pipe.close()
    worker.stack.close()
