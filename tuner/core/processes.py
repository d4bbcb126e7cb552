"""Processes that end with the one that started them."""

from __future__ import annotations

import contextlib
import ctypes
import signal

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent has ended, however it ended; only Linux can."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # TypeError: on Windows
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
