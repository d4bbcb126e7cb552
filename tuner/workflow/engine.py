"""The one stage loop: inputs fresh? -> plan -> execute -> judge -> write -> manifest last."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tuner import stages
from tuner.core.errors import InputError
from tuner.core.result import Record, StageResult, TrialResult
from tuner.core.signals import uninterrupted
from tuner.core.store import StageDir, read_result, write_json
from tuner.core.trial import WorkItem
from tuner.recipe.model import Recipe
from tuner.stages import checklist
from tuner.view import plan as plan_view
from tuner.view.progress import Epochs
from tuner.workflow import budgets, dry_run, outputs, rounds, stage_clock
from tuner.workflow.executor_pool import ExecutorPool, StageRunner
from tuner.workflow.failures import ALIKE, first_fail_alike, raise_hopeless
from tuner.workflow.freshness import Options, Session, State
from tuner.workflow.listener import ProgressListener

STORED_LOOK = "test: evaluated before, and stored; nothing was evaluated anew, which --force --fresh does"


@dataclass(frozen=True)
class Outcome:
    """What `run_stage` gives: the content of result.json, its folder, whether anything was done for it,
    and why it is stale, where a stale one is shown all the same.
    """

    result: Mapping[str, Any]
    folder: StageDir
    ran: bool
    stale: Sequence[str] = ()


class Workflow:
    """One recipe, one run folder, one executor that starts when the first trial is needed."""

    def __init__(self, recipe_path: Path, recipe: Recipe, options: Options, listener: ProgressListener) -> None:
        self.session = Session(recipe_path, recipe, options)
        self.run = self.session.run
        self.options = options
        self.listener = listener
        self.pool = ExecutorPool(self.session, listener)

    def locked(self) -> AbstractContextManager[None]:
        return self.run.locked(self.options.command)

    def run_stage(self, name: str, round_number: int = 1, own_settings: bool = True) -> Outcome:
        """Bring a stage's result up to date; a fresh one is returned as it is."""
        session = self.session
        session.check_folder()
        folder = self.run.stage(rounds.folder_name(name, round_number))
        state = self._stored(name, round_number, own_settings)
        if state is not None:
            session.check_own_device(state)
            return Outcome(state.result or {}, folder, ran=False, stale=tuple(map(str, state.reasons)))
        recipe = session.recipe_of(session.basis(name, round_number))
        settings = session.settings(name, recipe)  # a wrong flag is said before anything else
        results = session.require_inputs(name, round_number)
        budgets.planned(session, name, round_number, settings, self.pool.workers, folder, keep=False)  # enough for it?
        executor = self.pool.ready(folder)
        session.check_device(name, round_number, self.pool.device)
        if self.options.fresh and folder.path.exists():
            folder.manifest_path.unlink(missing_ok=True)  # first: killed in between, the stage is unfinished
            shutil.rmtree(folder.path)
        facts = stages.Facts(session.user_files, session.data_hash, self.pool.device)
        inputs = stages.Inputs(results, session.trials(name, round_number), facts, self._extra(name), folder.label)
        with stage_clock.timed(folder, session.provenance(name, round_number)) as clock:
            folder.begin(recipe.model_dump(mode="json"))
            short = budgets.to_time(session, round_number, stages.load(name), recipe, inputs, settings, folder)
            timed = list(self._run_items(name, short, len(short), executor, "timing")) if short else []
            workers = self.pool.workers
            settings, plan = budgets.planned(session, name, round_number, settings, workers, folder, True, timed)
            finished = dry_run.finished_of(folder)
            kept = set(finished)
            clock.found(len(finished))
            if plan is not None:
                self.listener.note(plan_view.line(folder.label, plan))
            in_all = 0 if plan is None else int(plan["epochs_in_all"])
            records, result = self._decide(name, recipe, inputs, settings, finished, folder, executor, clock, in_all)
            if name == "test" and all(record.item.key in kept for record in records):
                self.listener.note(STORED_LOOK)
            clock.keep()  # what is killed from here on is the same attempt at the same result
            made = {"device": self.pool.device, **clock.to_json()}
            outputs.write_stage(session, name, round_number, records, result.to_json(), made, self.listener.note)
        return Outcome(read_result(folder.result_path), folder, ran=True)

    def close(self) -> None:
        self.pool.close()

    def run_all(self, names: Sequence[str], show: Callable[[str, int, Outcome], None]) -> bool:
        """Bring the stages up to date, up to a failed verdict unless forced; return whether all were done."""
        for index, name in enumerate(names):
            if name in budgets.SHARES:  # a budget that is too little for what comes later is said now
                for later in names[index + 1 :]:
                    dry_run.forecast(self.session, later, self.pool.workers)
            outcome = self.run_stage(name, own_settings=self._has_flags(name))
            show(name, 1, outcome)
            if outcome.result["verdict"] == "fail" and not self.options.force:
                return False
        return True

    def plan_only(self, name: str) -> dict[str, Any]:
        """Return what a stage would do next, without doing it (`--dry-run`)."""
        return dry_run.plan_only(self.session, name, self.pool.workers, self._extra(name))

    def plan_pending(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return for each stage that it is fresh, or its plan; those behind the first that is not wait for it."""
        return dry_run.plan_pending(self.session, names, self.pool.workers)

    def _has_flags(self, name: str) -> bool:
        """Tell whether the command gives a stage settings of its own, as `tuner run --budget` does."""
        return bool(self.options.flags.get(name))

    def run_rounds(
        self, wanted: int, show: Callable[[str, int, Outcome], None], say: Callable[[str], None]
    ) -> int | None:
        """Do rounds of step 7, each built on the one before it, up to the first that is not kept.

        Returns the number of rounds to ask for next, or None where there is nothing more to try.
        """
        base = 1
        for number in range(2, wanted + 2):
            if not (changes := self._proposed(base)):
                say(f"Round {number}: the diagnosis proposes no change; nothing to try.")
                return None
            if not self._round(number, base, changes, show, say):
                return None
            base = number
        return base if self._proposed(base) else None

    def run_one_round(self, show: Callable[[str, int, Outcome], None], say: Callable[[str], None]) -> int | None:
        """Do the next round of step 7 alone (`tuner fine --apply`), or finish the one that was interrupted.

        Returns as `run_rounds`.

        Raises:
            InputError: the diagnosis to apply is missing or stale.
        """
        begun = rounds.read_rounds(self.run.path)
        base = max((item["round"] for item in begun if item["kept"]), default=1)
        state = self.session.state("diagnose", base)
        if state.result is None or (state.reasons and not self.options.allow_stale):
            raise InputError(
                f"--apply needs the result of {state.label}, which is {state.kind}",
                f"Have it made first: tuner run {self.session.recipe_path}",
            )
        changes = self._proposed(base)
        tried = [item for item in begun if item["base"] == base and item["changes"] == list(changes)]
        number = tried[-1]["round"] if tried else max((item["round"] for item in begun), default=1) + 1
        if not changes:
            say(f"Round {number}: the diagnosis proposes no change; nothing to try.")
            return None
        kept = self._round(number, base, changes, show, say)
        return number if kept and self._proposed(number) else None

    def _proposed(self, round_number: int) -> Sequence[Mapping[str, Any]]:
        result = read_result(self.session.result_folder("diagnose", round_number).result_path)
        return result["choice"].get("changes", [])

    def _round(
        self,
        number: int,
        base: int,
        changes: Sequence[Mapping[str, Any]],
        show: Callable[[str, int, Outcome], None],
        say: Callable[[str], None],
    ) -> bool:
        """Apply changes to the recipe of round `base`, search again, and return whether they are kept."""
        rounds.begin(self.session.recipe_path, self.options.overrides, self.run.path, number, base, changes)
        say(f"Round {number}: trying " + "; ".join(f"{c['key']}: {c['from']} -> {c['to']}" for c in changes))
        for name in rounds.stages_of(self.run.path, number):
            outcome = self.run_stage(name, number, own_settings=self._has_flags(name))
            show(name, number, outcome)
            if outcome.result["verdict"] == "fail" and not self.options.force:
                say(f"Round {number} stops here; the winner of round {base} stays.")
                return False
        kept, why = self._keep_if_better(base, number)
        say(f"Round {number} is {'kept' if kept else f'not kept, round {base} stays'}: {why}")
        return kept

    def _keep_if_better(self, base: int, number: int) -> tuple[bool, str]:
        folders = [self.run.stage(rounds.folder_name("fine", which)) for which in (base, number)]
        old, new = (read_result(folder.result_path) for folder in folders)
        kept, why = rounds.compare(old, new, folders[0].records(), folders[1].records())
        rounds.store_entry(self.run.path, {**rounds.entry(self.run.path, number), "kept": kept, "why": why})
        write_json(self.run.winner_path, rounds.winner(new, number) if kept else rounds.winner(old, base))
        return kept, why

    def _stored(self, name: str, round_number: int, own_settings: bool) -> State | None:
        """Return the state whose result answers the command already, or None when there is work to do.

        Who accepts stale inputs has a result that is stale for them alone already.
        """
        if self.options.fresh and (name != "test" or self.options.force):
            return None
        state = self.session.state(name, round_number, own_settings)
        if name == "test":
            return None if state.result is None or self.options.force else state
        accepted = state.kind == "stale" and state.of_inputs and self.options.allow_stale
        return state if state.kind == "fresh" or accepted else None

    def _extra(self, name: str) -> dict[str, Any]:
        """Return what a stage reads beside results: for test the winner, verified, and how often it was looked at."""
        return {"winner": outputs.winner_of(self.run), "looks": len(outputs.looks(self.run))} if name == "test" else {}

    def _decide(
        self,
        name: str,
        recipe: Recipe,
        inputs: stages.Inputs,
        settings: Any,
        finished: dict[Any, TrialResult],
        folder: StageDir,
        executor: StageRunner,
        clock: stage_clock.Attempts,
        epochs_in_all: int,
    ) -> tuple[list[Record], StageResult]:
        """Plan and run generation after generation, reusing what an earlier call has finished, and judge the whole.

        `epochs_in_all`: of a search, as planned; 0: not a search.
        """
        stage = stages.load(name)
        records: list[Record] = []
        while items := stage.plan(recipe, inputs, settings, records):
            todo = dry_run.unfinished(items, finished)
            epochs = (
                _epochs([*records, *dry_run.known(items, finished)], todo, epochs_in_all) if epochs_in_all else None
            )
            for record in self._run_items(name, todo, len(records) + len(items), executor, epochs=epochs):
                with uninterrupted():
                    folder.append(record)
                    clock.tick()
                finished[record.item.key] = record.result
                if record.result.status == "failed" and first_fail_alike([*records, *dry_run.known(items, finished)]):
                    break
            records = sorted([*records, *dry_run.known(items, finished)], key=lambda record: record.order)
            if hopeless := first_fail_alike(records):
                records = hopeless
            raise_hopeless(name, records, every=True)
            if hopeless:
                self.listener.note(f"{name} stops early: its first {ALIKE} trials all failed in the same way")
                break
        result = stage.judge(recipe, inputs, settings, records)
        codes = recipe.accept.codes
        findings = [replace(finding, accepted=finding.accepted or finding.code in codes) for finding in result.findings]
        self._restore_weights(name, records, outputs.finalists(result.to_json()), folder, executor)
        return records, replace(result, findings=findings)

    def _run_items(
        self,
        name: str,
        items: Sequence[WorkItem],
        total: int,
        executor: StageRunner,
        title: str = "",
        epochs: Epochs | None = None,
    ) -> Iterator[Record]:
        """Run work items, with progress; `total` counts the finished ones of the stage too."""
        by_key = {item.key: item for item in items}
        self.listener.start(title or checklist.title(name), total, total - len(items), epochs)
        try:
            for result in executor.run(items):
                record = _as_stored(Record(by_key[result.id, result.until_epoch], result))
                raise_hopeless(name, [record], every=False)
                yield record
                self.listener.finish(record.result, record.number)
        finally:
            self.listener.stop()

    def _restore_weights(
        self, name: str, records: Sequence[Record], kept: set[str], folder: StageDir, executor: StageRunner
    ) -> None:
        """Train finalists again whose weights an earlier, differently set call of the stage has thrown away."""
        lost = {
            record.result.id: record.item
            for record in records
            if record.result.id in kept and record.result.score is not None
            if not folder.checkpoint(record.result.id).exists()
        }
        for _ in self._run_items(name, list(lost.values()), len(lost), executor):
            pass


def _epochs(records: Sequence[Record], todo: Sequence[WorkItem], in_all: int) -> Epochs:
    """Count the epochs of a search: a trial that goes on at a rung trains those that it has not yet."""
    reached: dict[str, int] = {}
    for record in records:
        reached[record.result.id] = max(reached.get(record.result.id, 0), _last_epoch(record.item))
    of = {item.number: (reached.get(item.spec.id, 0), _last_epoch(item)) for item in todo}
    done = sum(reached.values())
    return Epochs(done, max(in_all, done + sum(last - first for first, last in of.values())), of)


def _last_epoch(item: WorkItem) -> int:
    return item.until_epoch or item.spec.horizon_epochs or 0


def _as_stored(record: Record) -> Record:
    """Return the record as it will be read back, so that a resumed stage decides on the same values."""
    return Record.from_json(json.loads(json.dumps(record.to_json(), allow_nan=False)))
