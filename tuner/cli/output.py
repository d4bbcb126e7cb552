"""What a command prints on stdout: the reports of its stages, or their result.json with `--json`."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tuner import stages
from tuner.core.errors import InputError
from tuner.core.formatting import plural
from tuner.core.result import StageResult
from tuner.core.shell import line_of
from tuner.core.stage_ref import StageRef
from tuner.core.store import RunDir
from tuner.recipe.file import overrides_of
from tuner.view import plan as plan_view
from tuner.view.console import make_console, report
from tuner.view.overview import overview
from tuner.view.page import Page, wrap
from tuner.view.text import params_text


class Reporter:
    """Prints stage reports as they come; with `as_json` collects them and prints one JSON document at the end."""

    def __init__(self, recipe: str, repeated: Sequence[str], as_json: bool, many: bool = False) -> None:
        self.recipe = recipe
        self.repeated = repeated
        self.as_json = as_json
        self.many = many
        self.results: list[StageResult[Any]] = []
        self._next = ""  # to be named at the end, where the last report does not
        self._has_test = True

    def next_command(self, ref: StageRef, result: StageResult[Any]) -> str:
        """Return the command to type after a stage, with the user's own overrides."""
        if result.verdict == "fail":
            errors = [found.code for found in result.findings if found.severity == "error" and not found.accepted]
            return f"tuner explain {errors[0]}" if errors else self.command(ref.stage)
        if result.changes:
            return f"{self.command('run')} --rounds {ref.round}"
        following = stages.NAMES[stages.NAMES.index(ref.stage) + 1 :]
        if not following:
            return f"{self.look('export')} --weights winner.safetensors"
        return self._test() if stages.traits(following[0]).on_test_split else self.command(following[0])

    def _test(self) -> str:
        """Return the command to type when only the test is left; without a test split, not even that is."""
        return self.command(stages.only("on_test_split")) if self._has_test else self.look("report")

    def command(self, name: str) -> str:
        return line_of(["tuner", name, self.recipe, *self.repeated])

    def look(self, name: str) -> str:
        """Return a command that reads the run, which takes its folder and no other of the options."""
        given = list(pairwise(self.repeated))
        folders = [value for option, value in given if option == "--run-dir"]
        names = overrides_of([value for option, value in given if option == "--set"]).get("name")
        folders += [str(Path("runs") / str(names))] if names is not None else []
        return line_of(["tuner", name, self.recipe, *(["--run-dir", folders[0]] if folders else [])])

    def show(self, ref: StageRef, result: StageResult[Any], run: Path, brief: bool = False) -> None:
        """Print the report of a stage; `brief`: one line, for a result that stood there already and is no failure."""
        self.results.append(result)
        if self.as_json:
            return
        self._has_test = has_test(run)
        if brief and result.verdict != "fail":
            self.say(f"{ref}: {result.verdict.upper()}, done before. {result.headline}")
            self._next = self.next_command(ref, result)
        else:
            self._next = ""
            within_round = ref.round > 1 and result.verdict != "fail"  # the command's end says how to go on
            following = "" if within_round else self.next_command(ref, result)
            report(result, run / ref.label, following, make_console())
            print()

    def overview(self, run: Path, steps: Sequence[tuple[StageRef, StageResult[Any]]]) -> None:
        """Print what comes before the reports of several steps."""
        if not self.as_json and len(steps) > 1:
            overview(run, [(ref.label, result) for ref, result in steps], make_console())

    def show_log(self, result: StageResult[Any], folder: Path) -> None:
        """Print the report of a log, which no recipe goes on from: what is told to look up next is a finding."""
        self.results.append(result)
        if not self.as_json:
            first = result.findings[0].code if result.findings else ""
            report(result, folder, f"tuner explain {first}" if first else "tuner new NAME", make_console())
            print()

    def after_rounds(self, more: int | None) -> None:
        """Print the command to type after rounds of step 7; `more`: rounds to ask for, where there is more to try."""
        self._next = f"{self.command('run')} --rounds {more}" if more else self._test()

    def plan(self, plans: Sequence[Mapping[str, Any]]) -> None:
        """Print what would be run."""
        if self.as_json:
            print(json.dumps(list(plans) if self.many else plans[0], indent=2))
            return
        for plan in plans:
            trials = plan.get("trials", [])
            waiting = [trial for trial in trials if not trial["finished"]]
            words = plan.get("state", "")
            if trials:
                first = f"{plural(len(waiting), 'trial')} to run first" if waiting else "nothing to run"
                words = f"{first}, {len(trials) - len(waiting)} finished"
            page = Page(make_console())
            page.text(f"{plan['stage']}: {words}", 1, 2)
            if "search" in plan:
                plan_view.show(plan["search"], page)
            for trial in waiting:
                length = (
                    plural(trial["epochs"], "epoch")
                    if trial["epochs"]
                    else plural(trial["steps"], "step")
                    if trial["steps"]
                    else "measurements only"
                )
                params = f"  {params_text(trial['params'])}" if trial["params"] else ""
                page.text(f"{trial['number']:>3}  seed {trial['seed']}  {length}{params}", 3, 5)
            page.print()

    def say(self, text: str) -> None:
        """Print a sentence between two reports."""
        if not self.as_json:
            width = min(100, shutil.get_terminal_size().columns)
            print("\n".join(f" {line}" for line in wrap(text, width - 2)) + "\n")

    def finish(self) -> None:
        """Print what was collected, or how to go on where no report has said it."""
        if self.as_json:
            found = [result.to_json() for result in self.results]
            print(json.dumps(found if self.many else found[-1], indent=2))
        elif self._next:
            page = Page(make_console())
            page.command(" Next:  ", self._next)
            page.line()
            page.print()


def has_test(run: Path) -> bool:
    """Return whether a run's data have a test split, as far as its step 1 has seen."""
    first = StageRef(stages.NAMES[0]).folder(RunDir(run))
    with contextlib.suppress(InputError):
        return getattr(stages.read_result(first.result_path).metrics, "test_examples", None) != 0
    return True
