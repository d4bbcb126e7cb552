"""How a worker process is started: forked from a server that has torch loaded, or new where there is no such server."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

from tuner.core.errors import EnvironmentProblem
from tuner.core.trial import TrialEnv
from tuner.execute.slots import Slot
from tuner.execute.worker import Task, serve

ATTEMPTS = 4  # at a start: the fork server may have been killed a moment ago, and is started again when missed
RETRY_SECONDS = 0.2

_starting = threading.Lock()  # a start changes what all threads see


def method() -> str:
    """Return how processes start here: `forkserver`, or `spawn` where it is missing or forking is not safe (macOS)."""
    known = multiprocessing.get_all_start_methods()
    return "forkserver" if "forkserver" in known and sys.platform != "darwin" else "spawn"


def preload(libraries: Sequence[str] = ()) -> None:
    """Have the fork server load torch and these packages when it starts, so that not every trial has to."""
    if method() == "forkserver":
        multiprocessing.get_context("forkserver").set_forkserver_preload(["tuner.execute.preload", *libraries])


def begin_server() -> None:
    """Start the server that workers are forked from, as it needs seconds to load torch, and do not wait for it.

    It ends with the thread that this is called in.
    """
    preload()
    if method() == "forkserver":
        with _starting, _without_ctrl_c(), contextlib.suppress(OSError):  # who starts a worker says what is wrong
            forkserver.ensure_running()


class Process:
    """A started worker: what the supervisor holds of it."""

    def __init__(self, slot: Slot, task: Task, value: Any, env: TrialEnv) -> None:
        context: Any = multiprocessing.get_context(method())
        self.pipe, theirs = context.Pipe()
        self.stack, their_stack = context.Pipe(duplex=False)
        arguments = (theirs, their_stack, task, value, env, slot.environ)
        self._process = context.Process(
            target=serve, args=arguments, name=f"tuner-worker-{slot.index + 1}", daemon=True
        )
        try:
            with _starting, _main_left_out(), _without_ctrl_c():
                self._process.start()
        except BaseException:
            self.pipe.close()
            self.stack.close()
            raise
        finally:
            theirs.close()
            their_stack.close()

    pipe: Connection
    stack: Connection

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def exitcode(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        """Kill the process and what it has started, without waiting. Safe to call twice."""
        if self.pipe.closed:
            return
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)  # its group has its number
        self._process.kill()

    def end(self) -> None:
        """Kill the process and what it has started, and wait until its memory is free. Safe to call twice."""
        if self.pipe.closed:
            return
        self.kill()
        self._process.join()
        self.pipe.close()
        self.stack.close()


def start(slot: Slot, task: Task, value: Any, env: TrialEnv) -> Process:
    """Start a worker for one task in a slot.

    Raises:
        EnvironmentProblem: no process can be started.
    """
    for _ in range(ATTEMPTS):
        try:
            return Process(slot, task, value, env)
        except (EOFError, OSError) as error:
            why = str(error) or "the server that forks it is gone"
            preload()  # a package that cannot be imported ends the server
            time.sleep(RETRY_SECONDS)
    raise EnvironmentProblem(f"no worker process can be started: {why}", "Free memory, or allow more processes.")


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Start what is started here with SIGINT blocked: Ctrl-C reaches the whole group, and the supervisor alone decides.

    A worker ignores it soon enough; until then Python's own handler would print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # its own start would unblock the signal here
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _main_left_out() -> Iterator[None]:
    """Keep multiprocessing from importing the main module in every worker: the command line's, or a user's script."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
