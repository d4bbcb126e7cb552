"""Where a command starts: signals are listened to before anything is loaded that takes its time."""

from __future__ import annotations

import signal
import sys

from tuner.core.signals import ignore, listen, received


def main() -> None:
    """Load the command line and run it; a signal meanwhile has its documented exit code from the beginning on."""
    listen()
    try:
        from tuner.cli.app import main as run
    except BaseException as error:  # also what a library made of the signal's exception
        if received() is None and not isinstance(error, KeyboardInterrupt):
            raise
        ignore()
        sys.exit(128 + (received() or signal.SIGINT))
    run()
