"""A time for the whole run: what a step may take is decided when its turn comes, from what is left, and kept.

Steps before the searches have a bounded share. What the searches get is worked out from measured costs: a first search
and a second one with repeats, where there is time for both; else fewer repeats, else the first search alone. A last
search that ends early, because its trials took less than was foreseen, goes on with more configurations. Decisions lie
in `budget.json`, so that the same command, given again, goes on with the settings that it began with.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tuner import stages
from tuner.core.errors import InputError, UsageError
from tuner.core.formatting import plural
from tuner.core.metrics import LrSweepMetrics, OverfitMetrics
from tuner.core.result import Record
from tuner.core.safe_files import kind_problem
from tuner.core.stage_ref import StageRef
from tuner.core.store import read_json, write_json
from tuner.search.budget import AIM, MOST_TRIALS, Bounds, Budget, Fit, Outline, clock, fit, parse
from tuner.search.costs import FIXED_SECONDS, WRITING_SECONDS, Costs
from tuner.stages import SearchSettings
from tuner.workflow import budgets
from tuner.workflow.freshness import Session

FIRST_STEPS = 0.25  # of the budget, at most, for the steps before the searches
TAIL_SECONDS, TAIL_SHARE = 2.0, 0.02  # kept for what comes after the searches: the diagnosis, the last files
BEGUN_SECONDS = 1.0  # of a command before it gets here
TEST_SECONDS = 2.5  # of `tuner test` beside its start: evaluating, the plot, the files
AFTER = 0.25  # of the budget, at most, for the tail and the test
REPEATS = 0.2  # of a search's epochs, at most, go to training finalists again
CONFIRMING = 16  # epochs that confirming runs take, as a rule: four arms of two seeds, of an epoch or two each
OVERDUE = 1.1  # of the budget: a search that would not leave time for the rest within it is ended, trials included
SWEEPS = ((3, 100, 1000), (2, 100, 900), (1, 100, 750), (1, 50, 400), (1, 30, 200))  # seeds, steps, iterations in all

OVER = "Delete it: then the time of the run starts over."
KINDS = {"budget": str, "spent_seconds": (int, float), "given": dict}

Say = Callable[[str], None]


def whole_time(text: str) -> Budget:
    """Read the budget of a whole run.

    Raises:
        UsageError: it is no time.
    """
    try:
        budget = parse(text)
    except ValueError as error:
        raise UsageError(f"--budget: {error} (got {text!r})", "tuner run takes a time, such as 20m or 1h30m.") from None
    if budget.unit != "seconds":
        raise UsageError(
            f"--budget: tuner run takes a time for the whole run, such as 20m or 1h30m (got {text!r})",
            f"Give {budget.unit} to a stage of its own: tuner coarse RECIPE --budget {text}",
        )
    return budget


@dataclass
class WholeRun:
    """The clock of a run, and the settings that its stages were given; None: a stage that was left out.

    `waiting`: stages that have been given settings in this command, and have not been carried out yet. `tests`: the
    test comes in this command, where the workers are.
    """

    session: Session
    budget: Budget
    workers: int
    spent_before: float = 0.0
    given: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    waiting: set[str] = field(default_factory=set)
    start_seconds: float | None = None
    has_test: bool = True
    tests: bool = False

    @classmethod
    def of(cls, session: Session, text: str, workers: int, tests: bool = False) -> WholeRun:
        """Begin, or go on with what an earlier command with the same budget has decided."""
        found = cls(session, whole_time(text), workers, tests=tests)
        path = session.run.path / "budget.json"
        if path.exists() and not session.options.fresh:
            known = read_json(path, hint=OVER)
            if wrong := kind_problem(known, KINDS):
                raise InputError(f"{path}: not what tuner wrote ({wrong})", OVER)
            if known.get("budget") == str(found.budget):
                found.spent_before, found.given = float(known["spent_seconds"]), dict(known["given"])
        return found

    @property
    def spent(self) -> float:
        return self.spent_before + BEGUN_SECONDS + time.monotonic() - self.started

    def started_in(self, seconds: float, has_test: bool) -> None:
        """Hear what the executor's start took, as it will for the test, and whether there is a test split."""
        if self.start_seconds is None and seconds:
            self.start_seconds, self.has_test = seconds, has_test

    @property
    def after(self) -> float:
        """The seconds that are kept for what comes after the searches, the test included, in whatever command."""
        tail = TAIL_SECONDS + TAIL_SHARE * self.budget.amount
        start = FIXED_SECONDS if self.start_seconds is None else BEGUN_SECONDS + self.start_seconds
        start = 0.0 if self.tests else start
        return min(tail + (start + TEST_SECONDS if self.has_test else 0.0), AFTER * self.budget.amount)

    def is_over(self, factor: float = 1.0) -> bool:
        """Return whether the searches' time is over: what is left of the time, or a multiple of it, the rest takes."""
        return self.spent + self.after > factor * self.budget.amount

    def keep(self) -> None:
        """Write down what was decided and what is spent."""
        entry = {"budget": str(self.budget), "spent_seconds": round(self.spent, 1), "given": self.given}
        write_json(self.session.run.path / "budget.json", entry)

    def settings(self, name: str, say: Say) -> dict[str, Any] | None:
        """Return the settings that a stage gets beside its own; None: there is no time for it."""
        if name not in self.given:
            self.given[name] = self._decided(name, say)
        self.waiting.add(name)
        return self.given[name]

    def done(self, name: str) -> None:
        """Note that a stage has been carried out."""
        self.waiting.discard(name)
        self.keep()

    def _decided(self, name: str, say: Say) -> dict[str, Any] | None:
        if any(self.given.get(need, {}) is None for need in stages.load(name).NEEDS):
            return None
        if stages.load(name).Metrics is LrSweepMetrics:
            return self._sweep(name, say)
        if stages.traits(name).proposes_changes:
            return self._diagnosis(name, say)
        return self._search(name, say) if stages.traits(name).searches else {}

    def _sweep(self, name: str, say: Say) -> dict[str, Any]:
        """Return fewer seeds and iterations where the usual ones would take too much of the time."""
        if self.session.state(StageRef(name)).kind == "fresh":
            return {}
        settings = self.session.settings(StageRef(name))
        found = self.session.metrics(OverfitMetrics, 1)
        records = self.session.records_of(StageRef(stages.that_measures(OverfitMetrics)))
        seconds, steps = sum(record.result.wall_seconds for record in records), found.steps
        if not steps or not seconds:
            return {}
        batch = self.session.recipe.train.batch_size / max(1, found.examples or 1)
        step = seconds / steps * max(1.0, batch)
        left = FIRST_STEPS * self.budget.amount - self.spent
        allowed = [entry for entry in SWEEPS if entry[0] <= settings.seeds and entry[1] <= settings.steps]
        fitting = [entry for entry in allowed if entry[2] * step / self.workers <= left] or allowed[-1:]
        if not fitting or fitting[0] == allowed[0]:
            return {}
        seeds, iterations, _ = fitting[0]
        say(f"{name}: {plural(seeds, 'seed')} and {iterations} iterations, to leave time for the search")
        return {"seeds": seeds, "steps": iterations}

    def _diagnosis(self, name: str, say: Say) -> dict[str, Any]:
        """Return no confirming runs where the time that is left is too short for the usual number of them."""
        costs = budgets.costs_of(self.session, StageRef(stages.only("writes_winner")), self.workers)
        left = self.budget.amount - self.spent - self._reserved() - self.after
        if costs is None or CONFIRMING * (costs.epoch_seconds + costs.item_seconds) / self.workers <= left:
            return {}
        say(f"{name}: no confirming runs: {clock(max(left, 0.0))} are left")
        return {"confirm": False}

    def _search(self, name: str, say: Say) -> dict[str, Any] | None:
        """Return what a search may take: its part of what is left, or as much as fits."""
        ref = StageRef(name)
        own, costs = self.session.settings(ref), budgets.costs_of(self.session, ref, self.workers)
        costs = None if costs is None else replace(costs, fixed_seconds=WRITING_SECONDS)
        left = max(self.budget.amount - self.spent - self._reserved() - self.after, 0.0)
        later = [other for other in stages.named("searches") if stages.NAMES.index(other) > stages.NAMES.index(name)]
        if costs is None or own.budget is not None:
            share = stages.traits(name).budget_share if later else 1.0
            return {} if own.budget is not None else {"budget": clock(max(left * share, 1.0))}
        if later:
            return self._first_search(name, own, costs, left, later[0], say)
        return self._last_search(name, own, costs, left, say)

    def larger(
        self, ref: StageRef, settings: SearchSettings, records: Sequence[Record]
    ) -> tuple[SearchSettings, float] | None:
        """Return more configurations for a search that has ended early, and the seconds that they take, repeats too.

        None: no time is left for another one, by what its own trials took.
        """
        if (costs := budgets.costs_of_its_own(self.session, ref, records, self.workers)) is None:
            return None
        left = AIM * (self.budget.amount - self.spent - self.after)
        known = settings.once().outline().seconds(costs)
        for more in settings.larger():
            if (seconds := more.outline().seconds(costs) - known) <= left:
                return more, seconds
        return None

    def _reserved(self) -> float:
        """Return the seconds that searches before this one were given, and have not spent yet."""
        given = [self.given[name] or {} for name in self.waiting]
        return sum(parse(str(settings["budget"])).amount for settings in given if "budget" in settings)

    def _first_search(
        self, name: str, own: SearchSettings, costs: Costs, left: float, later: str, say: Say
    ) -> dict[str, Any] | None:
        after: SearchSettings = self.session.settings(StageRef(later))
        least = [
            _least(own, budgets.bounds_in_a_run(own), costs),
            _least(after.once(), budgets.bounds_in_a_run(after), costs),
        ]
        if sum(least) <= AIM * left:
            part = max(stages.traits(name).budget_share * left, least[0] / AIM)
            return {"budget": clock(part)}
        self.given[later] = None
        found = _fitted(own, left, budgets.shortest(own), costs)
        say(f"{later} and what follows it are left out: {clock(left)} are too short for two searches")
        say("the winner's accuracy will rest on one training: nothing is repeated")
        return {"trials": found.trials, "epochs": found.epochs}

    def _last_search(
        self, name: str, own: SearchSettings, costs: Costs, left: float, say: Say
    ) -> dict[str, Any] | None:
        for settings in own.with_fewer_repeats():
            found = _fitted(settings, left, budgets.bounds_in_a_run(own), costs)
            outline = settings.planned(found.trials, found.epochs).outline()
            if found.fits and outline.repeats * outline.epochs <= REPEATS * outline.total_epochs:
                changed = {key: value for key, value in settings.model_dump().items() if value != getattr(own, key)}
                if not outline.repeats:
                    say(f"{name}: no repeats: the winner's interval will rest on one seed")
                return {"budget": clock(max(left, 1.0)), **changed}
        once = own.once()
        found = _fitted(once, left, budgets.shortest(own), costs)
        if not found.fits:
            say(f"{name} and what follows it are left out: no time is left; the winner is that of the search before")
            return None
        say(f"{name}: no repeats: the winner's interval will rest on one seed")
        changed = {key: value for key, value in once.model_dump().items() if value != getattr(own, key)}
        return {**changed, "trials": found.trials, "epochs": found.epochs}


def _fitted(settings: SearchSettings, seconds: float, bounds: Bounds, costs: Costs) -> Fit:
    def outline(trials: int, epochs: int) -> Outline:
        return settings.planned(trials, epochs).outline()

    return fit(Budget(seconds, "seconds"), bounds, settings.epochs, MOST_TRIALS, outline, costs)


def _least(settings: SearchSettings, bounds: Bounds, costs: Costs) -> float:
    """Return the seconds of the least sensible search."""
    return settings.planned(bounds.least, min(bounds.shortest, settings.epochs)).outline().seconds(costs)
