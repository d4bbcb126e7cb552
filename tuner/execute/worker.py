"""The worker's side of the process executor: do what the supervisor asks, one thing after another."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection, wait

from tuner.errors import TunerError


def serve(pipe: Connection) -> None:
    """Do what the supervisor asks until it goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from tuner.train.trial import preflight, run_trial

    def tell(progress: object) -> None:
        pipe.send(("progress", progress))

    while True:
        try:
            task, value, env = pipe.recv()
            if task == "preflight":
                try:
                    pipe.send(("answer", preflight(value, env, tell)))
                except TunerError as error:
                    pipe.send(("raised", error))
            else:
                pipe.send(("result", run_trial(value, env, tell)))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            os._exit(0)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
