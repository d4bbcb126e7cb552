"""A worker: a process that does one thing, answers, and ends. Whatever user code did to it ends with it."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from typing import Any, Literal, NoReturn

from tuner.core.errors import TunerError, UserCodeError
from tuner.core.processes import die_with_parent
from tuner.core.result import TrialResult
from tuner.core.trial import TrialEnv, WorkItem
from tuner.execute.crashes import DUMP_SIGNAL

Task = Literal["inventory", "preflight", "trial", "stack"]


def serve(
    pipe: Connection, stack: Connection, task: Task, value: Any, env: TrialEnv, environ: Mapping[str, str]
) -> None:
    """Do the task, answer on `pipe`, end; answer DUMP_SIGNAL on `stack`. `environ` is set before anything else."""
    own = os.getpid()
    try:
        os.environ.update(environ)
        _stand_alone(pipe, stack)
        pipe.send(_answer(task, value, env, pipe))
        with contextlib.suppress(EOFError, OSError):
            pipe.recv()  # until it is ended: no other process has its number by then, and the rest of a crew goes on
        _leave(0)
    except BaseException as error:
        if os.getpid() == own and not isinstance(error, (BrokenPipeError, ConnectionResetError)):
            traceback.print_exc()
        _leave(1)  # a child that user code forked and that came back to here goes no further either


def _answer(task: Task, value: Any, env: TrialEnv, pipe: Connection) -> tuple[str, Any]:
    """Return what becomes of the task: ("answer", a Preflight), ("result", a TrialResult) or ("raised", an error).

    Of a stack the results are sent on the way; what remains to say is ("apart", why the others run by themselves).
    """
    if task == "inventory":
        from tuner.train.device import inventory

        return "answer", inventory()
    from tuner.train.trial import failure, preflight, run_trial

    def tell(progress: object) -> None:
        pipe.send(("progress", progress))

    try:
        if task == "preflight":
            return "answer", preflight(value, env, tell)
        if task == "stack":
            return "apart", _stacked(value, env, tell, pipe)
        return "result", run_trial(value, env, tell if env.is_first else None)
    except TunerError as error:
        return "raised", error
    except BaseException as error:  # signals do not come here: whatever it is, code has raised it
        why = failure(error, env.recipe_dir)
        if task == "stack":
            return "apart", why.message
        if task == "trial":
            return "result", TrialResult(value.spec.id, value.until_epoch, "failed", error=why)
        if why.kind == "user-code":
            return "raised", UserCodeError(why.message, why.hint)
        return "raised", RuntimeError(why.message)


def _stacked(items: Sequence[WorkItem], env: TrialEnv, tell: Callable[[object], None], pipe: Connection) -> str:
    """Train a stack, and send each trial's result; return why the other trials are to be trained by themselves."""
    from tuner.train.stacked.run import Unstackable, run_stack

    try:
        for result in run_stack(items, env, tell):
            pipe.send(("result", result))
    except Unstackable as error:
        return str(error)
    return ""


def _stand_alone(pipe: Connection, stack: Connection) -> None:
    """Be nobody's part: not of the terminal's signals, nor of the process group of the supervisor."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # what user code starts ends with this group
    if DUMP_SIGNAL is not None:
        faulthandler.register(DUMP_SIGNAL, file=stack.fileno(), all_threads=True)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: _drop(pipe, stack))
    _die_with_fork_server()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _drop(*pipes: Connection) -> None:
    """Have a child that user code forked neither answer in this process's place nor keep the pipe open behind it."""
    for pipe in pipes:
        with contextlib.suppress(OSError):
            pipe.close()


def _leave(code: int) -> NoReturn:
    """End without the exit handlers and the threads of user code, which may take any time."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _die_with_fork_server() -> None:
    """Let the kernel end this process with the fork server, which ends with the supervisor, even while it hangs.

    multiprocessing gives each worker the pipe that keeps the server alive, so that it could fork in turn: given back.
    """
    server = getattr(forkserver, "_forkserver", None)
    alive = getattr(server, "_forkserver_alive_fd", None)
    if alive is not None:
        forkserver._forkserver._forkserver_alive_fd = None  # type: ignore[attr-defined]
        os.close(alive)
    die_with_parent()
    parent = multiprocessing.parent_process()
    if parent is not None and wait([parent.sentinel], timeout=0):
        os._exit(1)  # it ended before the kernel was asked
