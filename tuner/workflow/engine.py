"""A command's workflow: the checklist in order, rounds of step 7, and the executor that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner import stages
from tuner.core.errors import InputError
from tuner.core.result import Change
from tuner.core.signals import TimeIsOver
from tuner.core.stage_ref import StageRef
from tuner.core.store import write_json
from tuner.recipe.model import Recipe
from tuner.search.budget import clock
from tuner.workflow import dry_run, rounds
from tuner.workflow.drawing import Drawing
from tuner.workflow.executor_pool import ExecutorPool
from tuner.workflow.freshness import Session
from tuner.workflow.listener import ProgressListener
from tuner.workflow.options import Options
from tuner.workflow.stage_run import Outcome, StageRun
from tuner.workflow.trackers import Journal, trackers
from tuner.workflow.whole_run import FIRST_STEPS, WholeRun

Show = Callable[[Outcome], None]
Say = Callable[[str], None]


class Workflow:
    """One recipe, one run folder, one executor that starts when the first trial is needed."""

    def __init__(self, recipe_path: Path, recipe: Recipe, options: Options, listener: ProgressListener) -> None:
        self.session = Session(recipe_path, recipe, options)
        journal = Journal(trackers(options.log, self.session.run.path, recipe.name))
        self.run = self.session.run
        self.listener = listener
        self.pool = ExecutorPool(self.session, listener, journal)
        self.drawing = Drawing(listener.note, beside=not options.in_this_process)

    @property
    def options(self) -> Options:
        return self.session.options

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run folder; at the end of what is done with it, the plots are there."""
        with self.run.locked(self.options.command):
            yield
            self.drawing.finish()

    def close(self) -> None:
        self.drawing.close()
        self.pool.close()

    def run_stage(self, ref: StageRef, own_settings: bool = True, whole: WholeRun | None = None) -> Outcome:
        """Bring a stage's result up to date; a fresh one is returned as it is."""
        outcome = StageRun(self.session, ref, self.pool, self.listener, own_settings, whole)()
        self.drawing.draw(outcome.result, outcome.folder)
        return outcome

    def run_all(self, names: Sequence[str], show: Show, budget: str | None = None, tests: bool = False) -> bool:
        """Bring the stages up to date, up to a failed verdict unless forced; return whether all were done.

        `budget`: a time for all of them together; stages that it has no room for are left out. `tests`: the test comes
        after them in this command, so that no start of another one is kept time for.
        """
        self.pool.imports_ahead = len(names) > 1
        if budget is None:
            for index, name in enumerate(names):
                if stages.traits(name).searches:  # a stage's own budget that is too little ends the command now
                    for later in names[index + 1 :]:
                        dry_run.forecast(self.session, StageRef(later), self.pool.workers)
                if not self._passes(StageRef(name), show):
                    return False
            return True
        whole = WholeRun.of(self.session, budget, self.pool.workers, tests)
        try:
            return self._run_within(whole, names, show)
        finally:
            whole.keep()

    def _run_within(self, whole: WholeRun, names: Sequence[str], show: Show) -> bool:
        most = clock(FIRST_STEPS * whole.budget.amount)
        self.listener.note(f"budget {whole.budget} for the whole run: at most {most} before the search")
        for name in names:
            given = whole.settings(name, self.listener.note)
            whole.keep()
            if given is None:
                continue
            self._give(name, given)
            try:
                passed = self._passes(StageRef(name), show, whole)
            except TimeIsOver:
                self.listener.note(f"{name} is left unfinished: the time of the run is over; the winner so far stands")
                return True
            whole.done(name)
            if not passed:
                return False
        return True

    def _give(self, name: str, given: Mapping[str, Any]) -> None:
        """Give a stage settings as options would."""
        flags = dict(self.options.flags)
        if settings := {**flags.get(name, {}), **given}:
            flags[name] = settings
        self.session.options = replace(self.options, flags=flags)

    def _passes(self, ref: StageRef, show: Show, whole: WholeRun | None = None) -> bool:
        """Bring a stage up to date and show it; return whether what comes after it may run."""
        outcome = self.run_stage(ref, bool(self.options.flags.get(ref.stage)), whole)
        show(outcome)
        return outcome.result.verdict != "fail" or self.options.force

    # -- without running anything -------------------------------------------------------------------------------

    def plan_only(self, ref: StageRef) -> dict[str, Any]:
        """Return what a stage would do next, without doing it (`--dry-run`)."""
        StageRun(self.session, ref, self.pool, self.listener).check()
        return dry_run.plan_only(self.session, ref, self.pool.workers)

    def plan_pending(
        self, names: Sequence[str], budget: str | None = None, tests: bool = False
    ) -> list[dict[str, Any]]:
        """Return for each stage that it is fresh, or its plan; those behind the first that is not wait for it."""
        left_out: list[str] = []
        whole = None
        if budget is not None:
            whole, said = WholeRun.of(self.session, budget, self.pool.workers, tests), list[str]()
            for name in names:
                if (given := whole.settings(name, said.append)) is None:
                    left_out.append(name)
                else:
                    self._give(name, given)
        kept = [name for name in names if name not in left_out]

        def check(ref: StageRef) -> None:
            own_settings = bool(self.options.flags.get(ref.stage))
            StageRun(self.session, ref, self.pool, self.listener, own_settings, whole).check()

        plans = dry_run.plan_pending(self.session, kept, self.pool.workers, check, within_a_run=whole is not None)
        return [*plans, *({"stage": name, "state": "left out: the budget is too short for it"} for name in left_out)]

    # -- step 7 -------------------------------------------------------------------------------------------------

    def run_rounds(self, wanted: int, show: Show, say: Say) -> int | None:
        """Do rounds of step 7, each built on the one before it, up to the first that is not kept.

        Returns the number of rounds to ask for next, or None where there is nothing more to try.
        """
        base = 1
        for number in range(2, wanted + 2):
            if not (changes := self._proposed(base)):
                say(f"Round {number}: the diagnosis proposes no change; nothing to try.")
                return None
            say(f"Return {number - 1} of {wanted} to step 5 is round {number}; the recipe as it is was round 1.")
            if not self._round(number, base, changes, show, say):
                return None
            base = number
        return base if self._proposed(base) else None

    def run_one_round(self, show: Show, say: Say) -> int | None:
        """Do the next round of step 7 alone (`tuner fine --apply`), or finish the one that was interrupted.

        Returns as `run_rounds`.

        Raises:
            InputError: the diagnosis to apply is missing or stale.
        """
        begun = rounds.read_rounds(self.run.path)
        base = max((item["round"] for item in begun if item["kept"]), default=1)
        state = self.session.state(StageRef(stages.only("proposes_changes"), base))
        if state.result is None or (state.reasons and not self.options.allow_stale):
            raise InputError(
                f"--apply needs the result of {state.ref}, which is {state.kind}",
                f"Run it first: {self.session.command('run')}",
            )
        changes = self._proposed(base)
        asked = [change.to_json() for change in changes]
        tried = [item for item in begun if item["base"] == base and item["changes"] == asked]
        number = tried[-1]["round"] if tried else max((item["round"] for item in begun), default=1) + 1
        if not changes:
            say(f"Round {number}: the diagnosis proposes no change; nothing to try.")
            return None
        kept = self._round(number, base, changes, show, say)
        return number if kept and self._proposed(number) else None

    def _proposed(self, round_number: int) -> Sequence[Change]:
        found = self.session.result_of(StageRef(stages.only("proposes_changes"), round_number))
        return () if found is None else found.changes

    def _round(self, number: int, base: int, changes: Sequence[Change], show: Show, say: Say) -> bool:
        """Apply changes to the recipe of round `base`, search again, and return whether they are kept."""
        entries = [change.to_json() for change in changes]
        rounds.begin(self.session.recipe_path, self.options.overrides, self.run.path, number, base, entries)
        say(f"Round {number}: trying " + "; ".join(f"{c.key}: {c.old} -> {c.new}" for c in changes))
        for ref in rounds.stages_of(self.run.path, number):
            if not self._passes(ref, show):
                say(f"Round {number} stops here; the winner of round {base} stays.")
                return False
        kept, why = self._keep_if_better(base, number)
        say(f"Round {number} is {'kept' if kept else f'not kept, round {base} stays'}: {why}")
        return kept

    def _keep_if_better(self, base: int, number: int) -> tuple[bool, str]:
        """Compare the winners of two rounds, and record which of them stays and why."""
        folders = [StageRef(stages.only("writes_winner"), which).folder(self.run) for which in (base, number)]
        old, new = (stages.read_result(folder.result_path) for folder in folders)
        kept, why = rounds.compare(old, new, folders[0].records(), folders[1].records())
        write_json(self.run.winner_path, rounds.winner(new, number) if kept else rounds.winner(old, base))
        decided = {**rounds.entry(self.run.path, number), "kept": kept, "why": why}
        rounds.store_entry(self.run.path, decided)  # last: what is killed before it decides again
        return kept, why
