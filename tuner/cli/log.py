"""`tuner diagnose --log FILE`: the log of a training that tuner never saw."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.cli.exit_codes import exit_codes
from tuner.core.errors import UsageError
from tuner.core.shell import line_of

LOG = {"log": (Path | None, None, "judge the log of a training elsewhere: CSV, JSON lines, trainer_state.json")}
KEPT = ("log", "run_dir", "json", "quiet", "debug", "fresh")  # options that say something about a log
TRAINING = ("confirm", "seeds")  # settings of the runs that tell look-alikes apart
CHANGED = {"engine": "processes", "device": "auto"}  # defaults that are not empty


def judge_log(recipe: str | None, flags: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Print the report of a log, and keep it as a run of its own."""
    run_dir: list[Path] = []
    with exit_codes(options["json"], options["debug"], run_dir):
        path: Path | None = options["log"]
        if path is None:
            raise UsageError("neither a recipe nor a log is given", "tuner diagnose RECIPE, or --log metrics.csv.")
        foreign = [
            name
            for name, value in options.items()
            if name not in KEPT and value not in (None, False, CHANGED.get(name))
        ]
        foreign += [name for name in TRAINING if flags.get(name)]
        if recipe is not None or foreign:
            what = f"the recipe {recipe!r}" if recipe is not None else "--" + foreign[0].replace("_", "-")
            raise UsageError(f"--log: goes without {what}", "A log is judged as it is: nothing is trained.")
        from tuner.api.logs import diagnose_log
        from tuner.cli.output import Reporter

        settings = {key: value for key, value in flags.items() if value is not None}
        command = line_of(["tuner", *sys.argv[1:]])
        found = diagnose_log(path, options["run_dir"], settings, command, options["fresh"])
        reporter = Reporter("", [], as_json=options["json"])
        if not found.ran:
            reporter.say("Judged before, and the log is the same: this is its report.")
        reporter.show_log(found.result, found.run / found.ref.label)
        reporter.finish()
        if found.result.verdict == "fail":
            raise SystemExit(1)
