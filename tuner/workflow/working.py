"""A worker of a shared folder, as the command line asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WorkerOptions:
    """The options of `tuner worker`; None: the default, which depends on the machine."""

    workers: int | None = None
    device: str = "auto"
    trials_per_device: int | None = None
    wait: float = 600.0
    linger: float = 60.0
    share_gpus: bool = False


def work(folder: Path, options: WorkerOptions, say: Callable[[str], None]) -> None:
    """Carry out trials from a shared folder until no command is left; it raises as `FolderWorker.work`."""
    from tuner.execute.folder_worker import FolderWorker, Patience
    from tuner.execute.machine import look
    from tuner.execute.slots import Wish

    wish = Wish(options.device, options.workers, options.trials_per_device or 1)
    patience = Patience(options.wait, options.linger)
    FolderWorker(folder, look(), wish, patience, say, options.share_gpus).work()
