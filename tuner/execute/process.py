"""Run trials in worker processes that are forked, in milliseconds, from a server that has torch loaded already.

The supervisor (this side) never imports torch. A worker that dies takes only its trial with it: the trial is tried once
more, then recorded as failed. A worker that gives no sign of life is killed. Workers end when the supervisor does.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

from tuner.core.result import FailureKind, TrialError, TrialResult
from tuner.core.trial import TrialEnv, WorkItem
from tuner.errors import EnvironmentProblem
from tuner.execute.base import OnProgress

WORKER_BYTES = 1_500_000_000  # torch, a small net and its batches; measured 0.5-0.7 GB for torch alone
SILENCE_SECONDS = 600.0  # a trial tells its progress several times a second


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
    """A live worker process, its pipe, and what it is doing."""

    index: int
    process: Any
    pipe: Connection
    item: WorkItem | None = None
    started_at: float = 0.0
    heard_at: float = 0.0

    def give(self, item: WorkItem, env: TrialEnv) -> None:
        self.item = item
        self.started_at = time.time()
        self.heard_at = time.monotonic()
        self.pipe.send(("run", item, env))


class ProcessExecutor:
    """Workers live from their first trial until `close`. `env` may be exchanged between two calls of `run`."""

    def __init__(
        self, env: TrialEnv, workers: int, on_progress: OnProgress, silence_seconds: float = SILENCE_SECONDS
    ) -> None:
        self.env = env
        self.workers = workers
        self.on_progress = on_progress
        self.silence_seconds = silence_seconds
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._waiting: deque[WorkItem] = deque()
        self._died_once: set[tuple[str, int | None]] = set()
        self._started = 0

    def preflight(self, tables: Mapping[str, Any]) -> dict[str, Any]:
        """Check in a worker what cannot be checked without torch; a TunerError found there is raised here."""
        worker = self._idle.pop() if self._idle else self._start()
        self._busy.append(worker)
        worker.pipe.send(("preflight", tables, self.env))
        while True:
            try:
                kind, value = worker.pipe.recv()
            except (EOFError, ConnectionResetError):
                self._bury(worker)
                code = worker.process.exitcode
                raise EnvironmentProblem(
                    f"the worker process died while the recipe was tried out ({_death(code)})",
                    "Run with --workers 0 to see it happen in this process.",
                ) from None
            if kind == "progress":
                self.on_progress(value)
                continue
            self._busy.remove(worker)
            self._idle.append(worker)
            if kind == "raised":
                raise value
            return value

    def run(self, items: Sequence[WorkItem]) -> Iterator[TrialResult]:
        self._waiting = deque(items)
        while self._waiting or self._busy:
            while self._waiting and len(self._busy) < self.workers:
                worker = self._idle.pop() if self._idle else self._start()
                worker.give(self._waiting.popleft(), self.env)
                self._busy.append(worker)
            for worker in self._news():
                result = self._hear(worker)
                if result is not None:
                    yield result

    def close(self) -> None:
        for worker in [*self._idle, *self._busy]:
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()
        self._idle.clear()
        self._busy.clear()

    def _start(self) -> _Worker:
        from tuner.execute.worker import serve

        context = _context()
        ours, theirs = context.Pipe()
        self._started += 1
        process = context.Process(target=serve, args=(theirs,), name=f"tuner-worker-{self._started}", daemon=True)
        process.start()
        theirs.close()
        return _Worker(self._started, process, ours)

    def _news(self) -> list[_Worker]:
        """Wait for a second at most; return the workers that said something, died, or have been silent too long."""
        ready = set(wait([worker.pipe for worker in self._busy], timeout=1.0))
        late = time.monotonic() - self.silence_seconds
        return [worker for worker in list(self._busy) if worker.pipe in ready or worker.heard_at < late]

    def _hear(self, worker: _Worker) -> TrialResult | None:
        """Read one message of a worker, or its death; return the result when its trial has ended."""
        assert worker.item is not None
        if not worker.pipe.poll():
            self._bury(worker)
            minutes = self.silence_seconds / 60
            return self._failed(worker, "timeout", f"no sign of life for {minutes:.3g} minutes; the worker was killed")
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            self._bury(worker)
            if worker.item.key not in self._died_once:
                self._died_once.add(worker.item.key)
                self._waiting.appendleft(worker.item)
                return None
            return self._failed(worker, "crash", f"the worker process died, twice ({_death(worker.process.exitcode)})")
        worker.heard_at = time.monotonic()
        if kind == "progress":
            self.on_progress(value)
            return None
        self._busy.remove(worker)
        self._idle.append(worker)
        if kind == "raised":
            raise value
        return replace(value, worker=worker.index)

    def _bury(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        self._busy.remove(worker)

    def _failed(self, worker: _Worker, kind: FailureKind, message: str) -> TrialResult:
        assert worker.item is not None
        return TrialResult(
            id=worker.item.spec.id,
            until_epoch=worker.item.until_epoch,
            status="failed",
            wall_seconds=time.time() - worker.started_at,
            error=TrialError(kind, message, "Run with --workers 0 to see it happen in this process."),
            worker=worker.index,
            started_at=worker.started_at,
        )


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        import signal

        name = signal.Signals(-exitcode).name
        return f"{name}, perhaps out of memory" if name == "SIGKILL" else name
    return f"exit code {exitcode}"
