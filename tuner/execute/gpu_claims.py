"""GPUs that one worker of a shared folder has to itself: a lock on a file for each, which ends with the worker."""

from __future__ import annotations

import re
import socket
from contextlib import ExitStack
from pathlib import Path

from tuner.core.errors import EnvironmentProblem
from tuner.core.inventory import Gpu
from tuner.core.locks import Held, hold

SHARED = "Stop it, give this one other devices (--device cuda:1), or let them share with --share-gpus."


class GpuClaims:
    """The GPUs that this worker has claimed in a shared folder. Those who compete for one are on one machine, so that a
    lock holds wherever the folder lies.
    """

    def __init__(self, folder: Path, who: str) -> None:
        self.folder = folder / "gpus"
        self.who = who
        self.own: list[Gpu] = []
        self._locks = ExitStack()

    def claim(self, gpus: list[Gpu], count: int | None) -> None:
        """Have `count` of the GPUs, or as many of them as are free; None: all that are free.

        Raises:
            EnvironmentProblem: "all GPUs are another worker's".
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        holders: list[str] = []
        for gpu in gpus:
            if count is not None and len(self.own) >= count:
                break
            if gpu in self.own:
                continue
            try:
                self._locks.enter_context(hold(self.folder / f"{_file_name(gpu)}.lock", self.who))
                self.own.append(gpu)
            except Held as held:
                holders.append(f"{gpu.name} ({held.holder})")
        if not self.own:
            raise EnvironmentProblem(f"all GPUs are another worker's here: {', '.join(holders)}", SHARED)

    def give_back(self) -> None:
        """Let others have the GPUs. Safe to call twice."""
        self.own.clear()
        self._locks.close()


def _file_name(gpu: Gpu) -> str:
    """Name a GPU: by its own id where it has one, as machines, jobs and containers number theirs from 0 each."""
    name = gpu.name if gpu.name.startswith("MIG-") else gpu.uuid or f"{socket.gethostname()}-{gpu.name}"
    return re.sub(r"[^\w.-]", "-", name)
