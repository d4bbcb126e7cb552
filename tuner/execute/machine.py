"""What this machine has, looked at with torch in a process that ends: no CUDA context stays behind."""

from __future__ import annotations

from pathlib import Path

from tuner.core.errors import EnvironmentProblem
from tuner.core.inventory import Inventory
from tuner.core.trial import TrialEnv
from tuner.execute.slots import Slot
from tuner.execute.start import preload, start


def look() -> Inventory:
    """Return what this machine has, its GPUs as well; the server that trials are forked from runs from here on.

    Raises:
        EnvironmentProblem: "torch cannot be loaded".
    """
    preload()
    process = start(Slot(0), "inventory", None, TrialEnv(Path.cwd()))
    try:
        kind, found = process.pipe.recv()
    except (EOFError, OSError):
        kind, found = "died", None
    finally:
        process.end()
    if kind != "answer":
        raise EnvironmentProblem(f"torch cannot be loaded here ({kind})", "python -c 'import torch' says why.")
    assert isinstance(found, Inventory)
    return found
