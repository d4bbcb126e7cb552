"""The worker's side of the process executor: do what the supervisor asks, one thing after another."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import threading
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait

from tuner.core.errors import TunerError
from tuner.core.processes import die_with_parent
from tuner.execute.crashes import DUMP_SIGNAL


def serve(pipe: Connection, stack: Connection) -> None:
    """Do what the supervisor asks until it goes away; answer DUMP_SIGNAL on `stack`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    faulthandler.register(DUMP_SIGNAL, file=stack.fileno(), all_threads=True)
    _die_with_fork_server()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from tuner.train.trial import preflight, run_trial

    def tell(progress: object) -> None:
        pipe.send(("progress", progress))

    while True:
        try:
            task, value, env = pipe.recv()
            try:
                if task == "preflight":
                    pipe.send(("answer", preflight(value, env, tell)))
                else:
                    pipe.send(("result", run_trial(value, env, tell)))
            except TunerError as error:
                pipe.send(("raised", error))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            os._exit(0)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _die_with_fork_server() -> None:
    """Let the kernel end this process with the fork server, which ends with the supervisor, even while it hangs.

    multiprocessing gives each worker the pipe that keeps the server alive, so that it could fork in turn: given back.
    """
    alive = getattr(forkserver._forkserver, "_forkserver_alive_fd", None)
    if alive is not None:
        forkserver._forkserver._forkserver_alive_fd = None  # type: ignore[attr-defined]
        os.close(alive)
    die_with_parent()
