"""What the fork server loads before it forks workers; only the server imports this module."""

import atexit
import os

import tuner.train.preload  # noqa: F401

_server = os.getpid()


@atexit.register
def _leave() -> None:
    """End at once: workers end with the server, and unloading torch piece by piece takes a second."""
    if os.getpid() == _server:
        os._exit(0)
