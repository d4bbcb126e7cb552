"""Run every trial in a worker process of its own, forked in milliseconds from a server that has torch loaded.

A trial on several devices has a process for each of them, which begin and end together (`crew`). Small trials that
are alike share one, as a stack, where that was measured to pay; whatever befalls it, they are run by themselves then.
The supervisor (this side) never imports torch. A worker that dies takes only its trial with it: the trial is tried once
more, then recorded as failed. A worker that gives no sign of life, or takes far longer than it should, is killed.
Workers end when the supervisor does.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from typing import Any

from tuner.core.errors import EnvironmentProblem
from tuner.core.inventory import Inventory, without_gpus
from tuner.core.memory import Room
from tuner.core.preflight import Preflight
from tuner.core.result import FailureKind, TrialError, TrialResult
from tuner.core.stacking import SINGLE, stacks_of
from tuner.core.trial import TrialEnv, WorkItem
from tuner.execute import crashes
from tuner.execute.base import OnProgress
from tuner.execute.crew import Crew
from tuner.execute.deadlines import Deadlines, words
from tuner.execute.slots import Leases, Slot, Slots, Wish, alone, plan_slots
from tuner.execute.start import Process, preload, start

DEBUG = "Run with --workers 0 to see it happen in this process."


@dataclass(eq=False)
class _Worker:
    """A trial that runs, its slot and its processes, and when it was last heard of (monotonic seconds).

    `items`: of a stack, the trials that have not answered yet, of `count` that it began with.
    """

    slot: Slot
    items: list[WorkItem]
    env: TrialEnv
    crew: Crew
    count: int
    memory_kills: int | None = field(default_factory=crashes.memory_kills)
    started_at: float = field(default_factory=time.time)  # the time of day, for the record
    began: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)

    @property
    def item(self) -> WorkItem:
        return self.items[0]


class ProcessExecutor:
    """One worker process per trial, as many at once as there are slots.

    `deadlines`: how long a trial may take, and be silent. `inventory`: of this machine; None: what shows without torch,
    until a preflight has looked. `libraries`: packages that the trials use, loaded once for all of them. `tick`: called
    every second at least while something runs; what it raises ends that.
    """

    def __init__(
        self,
        wish: Wish,
        on_progress: OnProgress,
        deadlines: Deadlines | None = None,
        inventory: Inventory | None = None,
        libraries: Sequence[str] = (),
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self.wish = wish
        self.on_progress = on_progress
        self.deadlines = deadlines or Deadlines()
        self.tick = tick
        preload(libraries)
        self._inventory = inventory or without_gpus()
        self._trial_bytes: int | None = None
        self._room: Room | None = None
        self._stacking = SINGLE
        self._busy: list[_Worker] = []
        self._waiting: deque[tuple[WorkItem, ...]] = deque()
        self._crowded: list[WorkItem] = []
        self._apart: set[tuple[str, int | None]] = set()  # of trials whose stack came to nothing
        self._deaths: Counter[tuple[str, int | None]] = Counter()

    @property
    def slots(self) -> Slots:
        return plan_slots(self._inventory, self.wish, self._trial_bytes)

    def preflight(self, recipe: Mapping[str, Any], env: TrialEnv) -> Preflight:
        died = 0
        while True:
            kills = crashes.memory_kills()
            process = start(Slot(0), "preflight", recipe, env)
            try:
                kind, value = self._checked(process, env)
                break
            except (EOFError, OSError):
                process.end()
                died, code = died + 1, process.exitcode
                if died >= crashes.tries(code, kills):
                    text = f"the worker process died while the recipe was checked ({crashes.words(code, kills)})"
                    raise EnvironmentProblem(text, DEBUG) from None
            finally:
                process.end()
        if kind == "raised":
            raise value
        self._inventory = value.inventory or self._inventory
        self._trial_bytes = value.peak_memory_bytes
        self._room = value.room
        self._stacking = value.stacking
        return value

    def _checked(self, process: Process, env: TrialEnv) -> tuple[str, Any]:
        """Return a worker's answer to the recipe; OSError, EOFError: it died."""
        heard = time.monotonic()
        while time.monotonic() - heard <= self.deadlines.silence:
            self.tick()
            if not process.pipe.poll(1.0):
                continue
            kind, value = process.pipe.recv()
            if kind != "progress":
                return kind, value
            heard = time.monotonic()
            self.on_progress(value)
        where = crashes.where_it_hangs(process.pid, process.stack, env.recipe_dir)
        text = f"no sign of life for {words(self.deadlines.silence)} while the recipe was checked{where}"
        raise EnvironmentProblem(text, DEBUG)

    def run(self, items: Sequence[WorkItem], env: TrialEnv) -> Iterator[TrialResult]:
        slots = self.slots
        self._waiting, self._crowded, self._apart = deque(), [], set()
        self.add(items)
        leases = Leases(slots)
        try:
            while self._waiting or self._busy or self._crowded:
                if not (self._waiting or self._busy):  # what found no memory beside others runs again, alone
                    slots = alone(slots)
                    leases = Leases(slots)
                    self._waiting, self._crowded = deque((item,) for item in self._crowded), []
                self._fill(leases, env)
                for worker in self._news():
                    result = self._hear(worker, slots)
                    try:
                        if worker not in self._busy:
                            leases.give_back(worker.slot)
                            self._fill(leases, env)  # before the last process is waited for, and its result is written
                            worker.crew.end()
                    finally:  # whatever ends the run there, this trial has ended before
                        if result is not None:
                            yield result
        finally:  # the caller listens no more, or a worker raised
            self.close()

    @property
    def wants_more(self) -> bool:
        return len(self._waiting) < len(self.slots)

    def add(self, items: Sequence[WorkItem]) -> None:
        """Have more trials wait, in stacks with those that wait already where that pays."""
        waiting = [item for stack in self._waiting for item in stack] + list(items)
        size = self._stacking.size if self.wish.stack is None else self.wish.stack
        first = [(item,) for item in waiting if item.key in self._apart]
        free = [item for item in waiting if item.key not in self._apart]
        self._waiting = deque([*first, *stacks_of(free, size, len(self.slots))])

    def close(self) -> None:
        for worker in list(self._busy):
            self._discard(worker)

    def _fill(self, leases: Leases, env: TrialEnv) -> None:
        """Begin trials in all free slots, as far as there are any."""
        while self._waiting and (slot := leases.take()) is not None:
            self._begin(slot, self._waiting.popleft(), env)

    def _begin(self, slot: Slot, items: Sequence[WorkItem], env: TrialEnv) -> None:
        env = replace(env, device=slot.device, room=self._room or env.room)
        self._busy.append(_Worker(slot, list(items), env, Crew(slot, items, env), len(items)))

    def _news(self) -> list[_Worker]:
        """Wait for a second at most; return the workers that said something, died, or are past a limit."""
        ready = set(wait([pipe for worker in self._busy for pipe in worker.crew.pipes], timeout=1.0))
        self.tick()
        return [
            worker for worker in list(self._busy) if ready.intersection(worker.crew.pipes) or self._exceeded(worker)
        ]

    def _exceeded(self, worker: _Worker) -> str | None:
        now = time.monotonic()
        return self.deadlines.exceeded(worker.item, (now - worker.began) / worker.count, now - worker.heard)

    def _hear(self, worker: _Worker, slots: Slots) -> TrialResult | None:
        """Read one message of a worker, or its death; return the result when its trial has ended."""
        if not worker.crew.has_news():
            return self._hung(worker)
        try:
            news = worker.crew.receive()
        except EOFError:
            return self._died(worker)
        worker.heard = time.monotonic()
        if news is None:
            return None
        kind, value = news
        if kind == "progress":
            self.on_progress(value)
            return self._hung(worker) if self._exceeded(worker) else None
        if kind == "apart":
            return self._take_apart(worker)
        item = worker.item
        if kind == "result" and worker.count > 1:
            item = next(item for item in worker.items if item.key == (value.id, value.until_epoch))
            worker.items.remove(item)
        if worker.count == 1 or not worker.items:
            self._dismiss(worker)
        if kind == "raised":
            worker.crew.end()
            raise value
        self._deaths.pop(item.key, None)
        if value.error is not None and value.error.kind == "oom" and slots.beside(worker.slot):
            self._crowded.append(item)
            return None
        self.deadlines.learn(item, value)
        if value.status in ("completed", "stopped"):
            self._trial_bytes = max(self._trial_bytes or 0, value.peak_memory_bytes)
        return replace(value, worker=worker.slot.index + 1)

    def _hung(self, worker: _Worker) -> TrialResult | None:
        """Kill a worker that is past a limit, and say where it was."""
        if (why := self._exceeded(worker)) is None:
            return None
        if worker.count > 1:
            return self._take_apart(worker)
        first = worker.crew.first
        where = crashes.where_it_hangs(first.pid, first.stack, worker.env.recipe_dir)
        self._discard(worker)
        return _failed(worker, "timeout", f"{why}; the worker was killed{where}", "--deadline allows more. ")

    def _died(self, worker: _Worker) -> TrialResult | None:
        """Give the trial of a dead worker another try, or up."""
        if worker.count > 1:
            return self._take_apart(worker)
        self._discard(worker)
        exitcode, key = worker.crew.exitcode, worker.item.key
        self._deaths[key] += 1
        if self._deaths[key] < crashes.tries(exitcode, worker.memory_kills):
            self._waiting.appendleft((worker.item,))
            return None
        count = self._deaths.pop(key)
        times = "twice" if count == 2 else f"{count} times"
        how = crashes.words(exitcode, worker.memory_kills)
        return _failed(worker, "crash", f"the worker process died, {times} ({how})")

    def _take_apart(self, worker: _Worker) -> TrialResult | None:
        """End a stack; those of its trials that have not answered are run by themselves, from what they have saved."""
        self._discard(worker)
        self._apart.update(item.key for item in worker.items)
        self._waiting.extendleft((item,) for item in reversed(worker.items))
        return None

    def _dismiss(self, worker: _Worker) -> None:
        """Kill a worker that has answered; it is waited for when the next has begun, but not where both need a GPU."""
        self._busy.remove(worker)
        if worker.slot.gpu is None:
            worker.crew.kill()
        else:
            worker.crew.end()

    def _discard(self, worker: _Worker) -> None:
        self._busy.remove(worker)
        worker.crew.end()


def _failed(worker: _Worker, kind: FailureKind, message: str, hint: str = "") -> TrialResult:
    return TrialResult(
        id=worker.item.spec.id,
        until_epoch=worker.item.until_epoch,
        status="failed",
        wall_seconds=time.monotonic() - worker.began,
        error=TrialError(kind, message, hint + (DEBUG if worker.item.devices == 1 else "")),
        worker=worker.slot.index + 1,
        started_at=worker.started_at,
    )
