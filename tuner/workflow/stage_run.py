"""Bring one stage of one round up to date: inputs, plan, execute, judge, write; the manifest comes last."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tuner import stages
from tuner.core.formatting import plural
from tuner.core.result import Record, Skipped, StageResult
from tuner.core.signals import TimeIsOver, uninterrupted
from tuner.core.stage_ref import StageRef
from tuner.core.store import StageDir
from tuner.core.trial import Progress, WorkItem
from tuner.search.costs import Timed
from tuner.search.halving import is_usable
from tuner.stages import checklist
from tuner.view import plan as plan_view
from tuner.view.progress import Epochs
from tuner.workflow import budgets, outputs
from tuner.workflow.batch import Batch
from tuner.workflow.best_so_far import BestSoFar, so_far
from tuner.workflow.executor_pool import ExecutorPool, StageRunner
from tuner.workflow.failures import ALIKE, first_fail_alike, raise_hopeless
from tuner.workflow.freshness import Session, State
from tuner.workflow.listener import ProgressListener
from tuner.workflow.stage_clock import Attempts, clock_file, timed
from tuner.workflow.under_way import UnderWay, is_given_up
from tuner.workflow.whole_run import OVERDUE, WholeRun
from tuner.workflow.work import Work, work_of

A_NEW_LOOK = "--fresh looks at the test split again only with --force beside it"
STORED_LOOK = "test: evaluated before, and stored; nothing was evaluated again, which --force --fresh does"


@dataclass(frozen=True)
class Outcome:
    """A stage's result and folder, whether anything was run for it, and why it is stale where that is accepted."""

    ref: StageRef
    result: StageResult[Any]
    folder: StageDir
    ran: bool
    stale: Sequence[str] = ()


@dataclass(frozen=True)
class StageRun:
    """One stage of one round in a command.

    `own_settings`: its settings were given as options, and stale it. `whole`: the run that has a time for all stages.
    """

    session: Session
    ref: StageRef
    pool: ExecutorPool
    listener: ProgressListener
    own_settings: bool = True
    whole: WholeRun | None = None

    def __call__(self) -> Outcome:
        """Return the stage's outcome: the stored one where it is fresh, else a new one."""
        session, folder = self.session, self.ref.folder(self.session.run)
        state = self._answer()
        if state is not None and state.result is not None:
            if session.options.fresh:
                self.listener.note(f"{self.ref}: the stored result is shown; {A_NEW_LOOK}")
            if clock_file(folder).exists() or so_far(session.run) is not None:  # killed after its manifest
                outputs.write_winner(session, self.ref, state.result, folder.records(), self.listener.note)
                clock_file(folder).unlink(missing_ok=True)
            return Outcome(self.ref, state.result, folder, ran=False, stale=tuple(map(str, state.reasons)))
        work, runner = self._ready()
        self._clear(folder)
        facts = replace(work.inputs.facts, device=self.pool.device)
        work = replace(work, inputs=replace(work.inputs, facts=facts))
        with timed(folder, session.provenance(self.ref)) as clock:
            folder.begin(work.recipe.model_dump(mode="json"))
            if clock.count == 1:
                self._forget_older_winner()
            work, epochs = self._planned(work, runner)
            work, records = self._execute(work, runner, clock, epochs)
            result = _with_given_up(work.judge(records), records)
            self._restore_weights(records, outputs.finalists(result), runner)
            clock.keep()  # what is killed from here on is the same attempt at the same result
            made = {"device": self.pool.device, **clock.to_json()}
            outputs.write_stage(session, self.ref, records, result, made, self.listener.note)
        return Outcome(self.ref, stages.read_result(folder.result_path), folder, ran=True)

    def check(self) -> None:
        """Refuse whatever running the stage would refuse, without running anything (`--dry-run`)."""
        if self._answer() is None:
            self._ready(only_check=True)
            if self._searches and (words := self.pool.stacking_in_words()):
                self.listener.note(words)

    def _answer(self) -> State | None:
        """Return the state whose result answers the command already; refuse a folder or device that does not fit."""
        self.session.check_folder()
        state = self._stored()
        if state is not None and state.result is not None:
            self.session.check_own_device(state)
            return state
        return None

    def _ready(self, only_check: bool = False) -> tuple[Work, StageRunner]:
        """Return the work and where it runs, after everything that can refuse it."""
        work = work_of(self.session, self.ref, self.session.options.device)
        if self.whole is None:  # a budget that is too small ends here
            budgets.planned(self.session, self.ref, work.settings, self.pool.workers)
        runner = self.pool.ready(work.folder, only_check)
        if self.whole is not None:
            self.whole.started_in(self.pool.start_seconds, self.pool.has_test)
        if self.pool.device:
            self.session.check_device(self.ref, self.pool.device)
        return work, runner

    def _stored(self) -> State | None:
        """Return the state whose result answers the command already, or None when there is work to do.

        With --allow-stale, a result that is stale only because an input is, is such an answer.
        """
        options, on_test_split = self.session.options, stages.traits(self.ref.stage).on_test_split
        if options.fresh and (not on_test_split or options.force):
            return None
        state = self.session.state(self.ref, self.own_settings)
        if on_test_split:
            return None if state.result is None or options.force else state
        accepted = state.kind == "stale" and state.of_inputs and options.allow_stale
        return state if state.kind == "fresh" or accepted else None

    def _clear(self, folder: StageDir) -> None:
        if self.session.options.fresh and folder.path.exists():
            folder.manifest_path.unlink(missing_ok=True)  # first: killed in between, the stage is unfinished
            shutil.rmtree(folder.path)

    def _forget_older_winner(self) -> None:
        """Put the best of the search before, if there is one, in the place of a best so far of an earlier recipe."""
        run, searches = self.session.run, stages.named("searches")
        if not self._searches or self.ref.round > 1 or (known := so_far(run)) is None:
            return
        before = searches[: searches.index(self.ref.stage)]
        if known["so_far"] in before:
            return
        run.winner_path.unlink()
        if before and (result := self.session.result_of(StageRef(before[-1]))) is not None:
            BestSoFar(run, StageRef(before[-1])).end(result)

    def _planned(self, work: Work, runner: StageRunner) -> tuple[Work, int]:
        """Turn a budget into trials and epochs, and return the work with them, and the epochs of a search (else 0)."""
        short = budgets.timing_trials(self.session, work)
        timings = Timed()
        if short:
            params = [item.spec.overrides for item in budgets.begins_with(work)]
            timings = Timed(list(self._run_items(short, len(short), runner, "timing")), params)
        whole = self.whole is not None
        settings, plan = budgets.planned(self.session, self.ref, work.settings, self.pool.workers, timings, whole)
        budgets.keep(work.folder, plan)
        if plan is None:
            return work, 0
        self.listener.note(plan_view.line(self.ref.label, plan))
        return replace(work, settings=settings), int(plan["epochs_in_all"])

    def _execute(
        self, work: Work, runner: StageRunner, clock: Attempts, epochs_in_all: int
    ) -> tuple[Work, list[Record]]:
        """Run generation after generation until the plan gives none, reusing what an earlier call has finished.

        Return the work as well: a search that has ended early may have grown. `epochs_in_all`: of a search, as planned;
        0: not a search.
        """
        finished = work.finished()
        clock.found(len(finished))
        clock.keep()  # what is killed from here on is gone on with
        reused = set(finished)
        records: list[Record] = []
        best, given_up = BestSoFar.of(self.session.run, self.ref), work.given_up()
        while items := (work := self._grown(work, records, clock.seconds)).plan(records):
            batch = Batch(work, records, items, finished, self._searches)
            for record in batch.there:
                if best is not None and record.item.key in reused:
                    best.hear(record)  # a command that was killed may have had no time for its last
            if self._is_overdue():
                short = [given_up[item.spec.id] for item in batch.todo if item.spec.id in given_up]
                if there := [*(batch.there if self._searches else records), *short]:
                    self.listener.note(f"{self.ref} ends here: the time of the run is over")
                    return work, sorted(there, key=lambda record: record.order)
                if not self._searches:
                    return work, []
            epochs = batch.epochs(epochs_in_all) if epochs_in_all else None
            if not records and (words := self.pool.stacked(batch.todo)):
                self.listener.note(words)
            try:
                with self.pool.watched(partial(self._hear, batch.under_way, best)):
                    for record in self._run_items(batch.todo, len(records) + len(batch.items), runner, epochs=epochs):
                        with uninterrupted():
                            work.folder.append(record)
                            if clock.tick() and self.whole is not None:
                                self.whole.keep()
                            if best is not None:
                                best.hear(record)
                        batch.end(record)
                        if record.result.status == "failed" and first_fail_alike(batch.there):
                            break
                        if runner.wants_more:
                            more = batch.more()
                            self.pool.journal.expect(self.ref, more)
                            runner.add(more)
            except TimeIsOver:
                if not self._searches:
                    continue  # what is compared with one another is there as a whole, or not at all
                for record in map(_as_stored, batch.under_way.given_up()):
                    work.folder.append(record)
                    given_up[record.result.id] = record
                    if best is not None:
                        best.hear(record)
                if not any(map(is_usable, [*batch.there, *given_up.values()])):
                    raise
                continue
            records = batch.there
            hopeless = first_fail_alike(records)
            raise_hopeless(self.ref.stage, hopeless or records, every=True)
            if hopeless:
                self.listener.note(f"{self.ref.stage} stops early: its first {ALIKE} trials all failed in the same way")
                return work, hopeless
        if stages.traits(self.ref.stage).on_test_split and all(record.item.key in reused for record in records):
            self.listener.note(STORED_LOOK)
        return work, records

    def _grown(self, work: Work, records: Sequence[Record], spent: float) -> Work:
        """Return the work with more configurations, where a search has ended and the run has time for them.

        Not once repeats have begun: they are of the best of all. `spent`: seconds of the search so far.
        """
        settings = work.settings
        if self.whole is None or not isinstance(settings, stages.SearchSettings) or settings.budget is None:
            return work
        if len({record.number for record in records}) != settings.trials:
            return work
        if replace(work, settings=settings.once()).plan(records) or not settings.larger():
            return work
        if (found := self.whole.larger(self.ref, settings, records)) is None:
            return work
        larger, seconds = found
        plan = budgets.enlarge(self.session, self.ref, larger, self.pool.workers, spent + seconds)
        more = plural(larger.trials - settings.trials, "more configuration")
        self.listener.note(f"{self.ref.label}: {more} of {plural(plan['epochs'], 'epoch')}: there is time left")
        return replace(work, settings=larger)

    def _hear(self, under_way: UnderWay, best: BestSoFar | None, news: Progress) -> None:
        """Take in a running trial's news.

        Raises:
            TimeIsOver: trials that run are given up.
        """
        reached = under_way.hear(news)
        if reached is not None and best is not None:
            best.hear_on_the_way(reached)
        if self._is_overdue():
            raise TimeIsOver

    @property
    def _searches(self) -> bool:
        return stages.traits(self.ref.stage).searches

    def _is_overdue(self) -> bool:
        """Return whether the whole run is so late that this stage is cut short; not before there is a winner."""
        if self.whole is None or not (self._searches or stages.traits(self.ref.stage).proposes_changes):
            return False
        return self.whole.is_over(OVERDUE) and self.session.run.winner_path.exists()

    def _run_items(
        self, items: Sequence[WorkItem], total: int, runner: StageRunner, title: str = "", epochs: Epochs | None = None
    ) -> Iterator[Record]:
        """Run work items, with progress; `total` counts the finished ones of the stage too.

        More that are given to the runner meanwhile are added to `items`.
        """
        self.pool.journal.expect(self.ref, items)
        self.listener.start(title or checklist.title(self.ref.stage), total, total - len(items), epochs)
        try:
            by_key = {item.key: item for item in items}
            for result in runner.run(tuple(items)):
                self.session.check_user_files()
                if (key := (result.id, result.until_epoch)) not in by_key:
                    by_key |= {item.key: item for item in items}
                record = _as_stored(Record(by_key[key], result))
                raise_hopeless(self.ref.stage, [record], every=False)
                self.pool.journal.end(record)
                self.listener.finish(record.result, record.number)
                yield record
        finally:
            self.listener.stop()

    def _restore_weights(self, records: Sequence[Record], kept: set[str], runner: StageRunner) -> None:
        """Train finalists again whose weights an earlier, differently set call of the stage has thrown away."""
        folder = self.ref.folder(self.session.run)
        lost = {
            record.result.id: record.item
            for record in records
            if record.result.id in kept and record.result.score is not None
            if not folder.checkpoint(record.result.id).exists()
        }
        for _ in self._run_items(list(lost.values()), len(lost), runner):
            pass


def _with_given_up(result: StageResult[Any], records: Sequence[Record]) -> StageResult[Any]:
    """Say which trials of a search were given up, and how far they had come."""
    found = [record for record in records if is_given_up(record)]
    if not found:
        return result
    told = ", ".join(f"trial {r.number} after {r.item.until_epoch} of {r.item.spec.horizon_epochs}" for r in found)
    why = f"the time of the run was over; given up, with its best weights so far: {told} epochs"
    return replace(result, skipped=[*result.skipped, Skipped("training to the end", why)])


def _as_stored(record: Record) -> Record:
    """Return the record as it will be read back, so that a resumed stage decides on the same values."""
    return Record.from_json(json.loads(json.dumps(record.to_json(), allow_nan=False)))
