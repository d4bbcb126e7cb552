"""A look at a shared folder (`--dry-run`): who is there; nothing is handed out, and nobody is waited for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tuner.core.formatting import plural
from tuner.core.inventory import parse_device
from tuner.core.preflight import Preflight
from tuner.core.result import TrialResult
from tuner.core.trial import Progress, TrialEnv, WorkItem
from tuner.execute.base import OnProgress
from tuner.execute.deadlines import Deadlines
from tuner.execute.folder import Watch
from tuner.execute.folder_engine import Shared, living_workers, slots_of
from tuner.execute.processes import ProcessExecutor
from tuner.execute.slots import Slots, Wish


class FolderVisitor:
    """Stands for the engine where nothing is run: the recipe is checked on this machine, which need have no GPU."""

    def __init__(self, wish: Wish, shared: Shared, on_progress: OnProgress) -> None:
        self.wish = wish
        self.shared = shared
        self.on_progress = on_progress

    @property
    def slots(self) -> Slots:
        kind, _ = parse_device(self.wish.device)
        return slots_of(living_workers(self.shared.folder, Watch()), kind)

    def preflight(self, recipe: Mapping[str, Any], env: TrialEnv) -> Preflight:
        """Check the recipe here, on the CPU, and say who would carry out its trials."""
        here = ProcessExecutor(replace(self.wish, device="cpu", workers=1), self.on_progress, Deadlines())
        found = here.preflight(recipe, replace(env, device="cpu"))
        workers, kind = living_workers(self.shared.folder, Watch()), self.slots.device
        there = f"{plural(len(workers), 'worker')} there, {plural(len(self.slots), 'trial')} at once"
        nobody = f"no worker there now: the command would wait for one (tuner worker {self.shared.folder})"
        text = f"{self.shared.folder}: {there if workers else nobody}; the recipe was checked on this machine"
        self.on_progress(Progress(0, 0.0, text, lasting=True))
        return replace(found, device="" if kind == "auto" else kind)

    def run(self, items: Sequence[WorkItem], env: TrialEnv) -> Iterator[TrialResult]:
        raise RuntimeError("a dry run runs no trial")

    def close(self) -> None:
        pass
