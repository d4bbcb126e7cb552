"""The executor's life: it starts when the first trial is needed, checks the recipe, and ends with the command."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tuner import stages
from tuner.core import cached
from tuner.core.errors import UsageError
from tuner.core.inventory import parse_device, without_gpus
from tuner.core.manifest import read_manifest
from tuner.core.preflight import Preflight
from tuner.core.result import TrialResult
from tuner.core.stacking import SINGLE, in_words, stacks_of
from tuner.core.stage_ref import StageRef
from tuner.core.store import StageDir
from tuner.core.trial import Progress, TrialEnv, WorkItem
from tuner.execute.base import Executor, TakesMore
from tuner.execute.slots import Wish, plan_slots
from tuner.recipe.file import Places, key_lines
from tuner.recipe.user_files import libraries
from tuner.workflow.ahead import import_ahead
from tuner.workflow.freshness import Session
from tuner.workflow.listener import ProgressListener
from tuner.workflow.trackers import Journal


@dataclass(frozen=True)
class StageRunner:
    """An executor that is ready for the trials of one stage, and where these run."""

    executor: Executor
    env: TrialEnv

    def run(self, items: Sequence[WorkItem]) -> Iterator[TrialResult]:
        return self.executor.run(items, self.env)

    @property
    def wants_more(self) -> bool:
        """Whether the engine takes items while others run, and will soon have none to begin."""
        return isinstance(self.executor, TakesMore) and self.executor.wants_more

    def add(self, items: Sequence[WorkItem]) -> None:
        """Have items run as well, in the run that is going on: their results come with it."""
        if isinstance(self.executor, TakesMore):
            self.executor.add(items)

    def at(self, stage_dir: Path) -> StageRunner:
        """Return a runner whose trials leave their files in another folder."""
        return replace(self, env=replace(self.env, stage_dir=stage_dir))


def device_kind(session: Session, ref: StageRef) -> str:
    """Return the kind of device that a stage's trials run on, as far as the run's files tell; nothing is started.

    What `--device auto` stands for is known from the stage's own trials, or from the steps before it, which have to be
    of the same kind. Where there are none, nothing is finished either, and the kind is of no consequence.
    """
    kind, _ = parse_device(session.options.device)
    if kind != "auto":
        return kind
    for record in ref.folder(session.run).records():
        return record.item.spec.device
    for need in stages.load(ref.stage).NEEDS:
        manifest = read_manifest(session.input_of(ref, need).folder(session.run))
        if manifest is not None and manifest.get("device"):
            return str(manifest["device"])
    return "cpu"


class ExecutorPool:
    """The one executor of a command. `device`: the kind that trials run on, "" until it is known."""

    def __init__(self, session: Session, listener: ProgressListener, journal: Journal) -> None:
        self.session = session
        self.listener, self.journal = listener, journal
        self.device = ""
        self._watch: Callable[[Progress], None] | None = None
        self._executor: Executor | None = None
        self.start_seconds = 0.0  # that the executor took to start and to check the recipe
        self.has_test = True  # as far as known: the data have a test split
        self.stacking = SINGLE
        self.imports_ahead = False  # of what later steps need, while the workers start

    @property
    def workers(self) -> int:
        """Return how many trials run at once."""
        if self._executor is not None:
            return len(self._executor.slots)
        if self.session.options.in_this_process:
            return 1
        return len(plan_slots(without_gpus(), replace(self._wish(), device="cpu")))

    def ready(self, folder: StageDir, only_check: bool = False) -> StageRunner:
        """Return a runner for the stage in `folder`; on first use, start the executor and check the recipe in it.

        `only_check`: no trial will be run (`--dry-run`), so nobody else is waited for.
        """
        device = self.device or self.session.options.device
        env = TrialEnv(self.session.folder, folder.path.resolve(), device, cached.cache_folder())
        if self._executor is None:
            began = time.monotonic()
            self._executor = self._start(only_check)
            if self.imports_ahead and not self.session.options.in_this_process:
                import_ahead()
            answer = self._checked(self._executor, env)
            self.device, self.has_test = answer.device, bool(answer.summary.get("test"))
            self.stacking = answer.stacking
            self.start_seconds = time.monotonic() - began
        return StageRunner(self._executor, env)

    def stacked(self, items: Sequence[WorkItem]) -> str | None:
        """Say how many of these trials are trained in stacks; None: each is by itself."""
        size = self._stack_size
        count = sum(len(stack) for stack in stacks_of(items, size, self.workers) if len(stack) > 1)
        return in_words(f"{count} trials", size, self.stacking) if count else None

    def stacking_in_words(self) -> str | None:
        """Say whether small trials are trained in stacks, or why not; None where no engine could."""
        if self._stack_size > 1:
            return in_words("trials", self._stack_size, self.stacking)
        return f"every trial by itself: {self.stacking.why}" if self._could_stack and self.stacking.why else None

    @property
    def _stack_size(self) -> int:
        return self.session.options.stack or self.stacking.size if self._could_stack else 1

    @property
    def _could_stack(self) -> bool:
        return self.session.options.engine == "processes" and not self.session.options.in_this_process

    @contextmanager
    def watched(self, watch: Callable[[Progress], None]) -> Iterator[None]:
        """Have `watch` hear of trials too; what it raises gives up those that run."""
        self._watch = watch
        try:
            yield
        finally:
            self._watch = None

    def close(self) -> None:
        """End the workers. Harmless when there are none."""
        self.listener.stop()
        if self._executor is not None:
            self._executor.close()
        self.journal.close()

    def _start(self, only_check: bool) -> Executor:
        from tuner.execute.deadlines import Deadlines
        from tuner.execute.folder_engine import FolderExecutor, Shared
        from tuner.execute.folder_visitor import FolderVisitor
        from tuner.execute.processes import ProcessExecutor
        from tuner.execute.ray_engine import Cluster, RayExecutor
        from tuner.execute.serial import SerialExecutor

        options = self.session.options
        if options.in_this_process:
            return SerialExecutor(self._wish(), self._hear)
        if options.engine == "ray":
            return RayExecutor(self._wish(), Cluster(options.address), self._hear, options.deadline)
        if options.engine == "folder" and options.address:
            shared = Shared(Path(options.address).expanduser(), self.session.user_files, options.deadline)
            return (FolderVisitor if only_check else FolderExecutor)(self._wish(), shared, self._hear)
        recipe = self.session.recipe
        used = libraries(recipe.tables(), recipe.search, self.session.folder)
        return ProcessExecutor(self._wish(), self._hear, Deadlines(options.deadline), libraries=used)

    def _wish(self) -> Wish:
        options = self.session.options
        train = self.session.recipe.train
        wanted = (options.device, options.workers or None, options.trials_per_device)
        return Wish(*wanted, train.threads_per_trial, train.devices_per_trial, options.stack)

    def _checked(self, executor: Executor, env: TrialEnv) -> Preflight:
        """Return what the preflight found.

        Raises:
            UsageError: every problem of the recipe that shows when its components are built.
        """
        recipe, path = self.session.recipe, self.session.recipe_path
        self.listener.start("checking the recipe", 0, 0)
        try:
            answer = executor.preflight({**recipe.tables(), "search": dict(recipe.search)}, env)
        finally:
            self.listener.stop()
        if answer.problems:
            places = Places(path, key_lines(path), frozenset(self.session.options.overrides))
            texts = [f"{places.of(key)}: {key}: {text}" for key, text in answer.problems]
            usual = "Fix the recipe, or override a key with --set key=value."
            raise UsageError("\n".join(texts), "\n".join(answer.hints) or usual)
        return answer

    def _hear(self, progress: Progress) -> None:
        """Pass on a trial's news."""
        if self._watch is not None:
            self._watch(progress)
        if progress.lasting:
            self.listener.note(progress.note)
        else:
            self.listener.update(progress)
            self.journal.hear(progress)
