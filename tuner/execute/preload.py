"""What the fork server loads before it forks workers; only the server imports this module."""

import atexit
import gc
import os

import tuner.train.preload  # noqa: F401
from tuner.train.compiler import leave_for_later
from tuner.train.warm_up import warm_up

_server = os.getpid()
leave_for_later()
warm_up()
gc.collect()
gc.freeze()  # a collection in a worker would touch, and so copy, everything that is loaded here


@atexit.register
def _leave() -> None:
    """End at once: workers end with the server, and unloading torch piece by piece takes a second."""
    if os.getpid() == _server:
        os._exit(0)
