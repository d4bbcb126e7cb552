"""Where the seconds of a run and its test go: `python -m benchmarks.seconds [RECIPE] [--budget 2m] [--times 3]`.

Each command is timed from outside; what its stages took, and when they began, is in their manifests. The rest is the
start (Python, the workers, the recipe checked) and the end (the plots that are not drawn yet, the last files). With
`--apart` the test is a command of its own; PYTHONPATH says which version of tuner is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
START, BETWEEN, END = "start", "between the steps", "end: plots"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seconds", description=__doc__)
    parser.add_argument("recipe", nargs="?", default=str(ROOT / "recipes/digits.toml"))
    parser.add_argument("--budget", help="of the whole run (default: the recipe's own settings)")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--apart", action="store_true", help="the test as a command of its own")
    options = parser.parse_args()
    runs = [measured(options.recipe, options.budget, options.apart) for _ in range(options.times)]
    print("\n".join(table(runs)))


def measured(recipe: str, budget: str | None, apart: bool) -> dict[str, float]:
    """Return the seconds of each part of a run in a new folder, its test included."""
    with tempfile.TemporaryDirectory(prefix="tuner-seconds-") as folder:
        run = Path(folder, "run")
        options = [recipe, "--run-dir", str(run), "--quiet", "--force"]
        environment = {**os.environ, "TUNER_CACHE": str(Path(folder, "cache"))}
        budgeted = [*options, *(["--budget", budget] if budget else [])]
        if not apart:
            return parts(run, *command("run", [*budgeted, "--through", "test"], environment))
        first = parts(run, *command("run", budgeted, environment))
        began, ended = command("test", options, environment)
        at, seconds = stages_of(run)["test"]
        return {**first, "test: start": at - began, "test": seconds, "test: end": ended - at - seconds}


def parts(run: Path, began: float, ended: float) -> dict[str, float]:
    """Return the seconds of a command before, in, between and after the stages that it has carried out."""
    stages = stages_of(run)
    first = min(at for at, _ in stages.values())
    last = max(at + seconds for at, seconds in stages.values())
    inside = {name: taken for name, (_, taken) in sorted(stages.items(), key=lambda entry: entry[1][0])}
    return {START: first - began, **inside, BETWEEN: last - first - sum(inside.values()), END: ended - last}


def command(name: str, options: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Give a command; return when it began and ended, in seconds since 1970.

    Raises:
        SystemExit: it failed.
    """
    began = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "tuner", name, *options], capture_output=True, text=True, env=environment
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"tuner {name} ended with exit code {done.returncode}:\n{done.stderr[-3000:]}")
    return began, time.time()


def stages_of(run: Path) -> dict[str, tuple[float, float]]:
    """Return {stage: (when it began, its seconds)} of the finished stages of a run."""
    found = {path.parent.name: json.loads(path.read_text()) for path in run.glob("*/manifest.json")}
    return {name: (manifest["began_at"], manifest["wall_seconds"]) for name, manifest in found.items()}


def table(runs: Sequence[Mapping[str, float]]) -> list[str]:
    """Return the lines of a table in Markdown: the median of each part, and its range where there are several runs."""
    lines = ["| part | seconds |", "|---|---|"]
    for part in runs[0]:
        lines.append(f"| {part} | {_words([run[part] for run in runs if part in run])} |")
    return [*lines, f"| all | {_words([sum(run.values()) for run in runs])} |"]


def _words(seconds: Sequence[float]) -> str:
    middle = f"{statistics.median(seconds):.1f}"
    return middle if len(seconds) == 1 else f"{middle} ({min(seconds):.1f}-{max(seconds):.1f})"


if __name__ == "__main__":
    main()
