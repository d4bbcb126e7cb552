"""Where the seconds of a run and its test go: `python -m benchmarks.seconds [RECIPE] [--budget 2m] [--times 3]`.

Each command is timed from outside; what its stages took, and when they began, is in their manifests. The rest is the
start (Python, the workers, the recipe checked) and the end (the plots that are not drawn yet, the last files).
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
START, BETWEEN, END, TEST_START, TEST_END = "start", "between the steps", "end: plots", "test: start", "test: end"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seconds", description=__doc__)
    parser.add_argument("recipe", nargs="?", default=str(ROOT / "recipes/digits.toml"))
    parser.add_argument("--budget", help="of the whole run (default: the recipe's own settings)")
    parser.add_argument("--times", type=int, default=1)
    options = parser.parse_args()
    runs = [measured(options.recipe, options.budget) for _ in range(options.times)]
    print("\n".join(table(runs)))


def measured(recipe: str, budget: str | None) -> dict[str, float]:
    """Return the seconds of each part of a run in a new folder, and of the test after it."""
    with tempfile.TemporaryDirectory(prefix="tuner-seconds-") as folder:
        run = Path(folder, "run")
        options = [recipe, "--run-dir", str(run), "--quiet", "--force"]
        environment = {**os.environ, "TUNER_CACHE": str(Path(folder, "cache"))}
        began, ended = command("run", [*options, *(["--budget", budget] if budget else [])], environment)
        stages = stages_of(run)
        first = min(at for at, _ in stages.values())
        last = max(at + seconds for at, seconds in stages.values())
        test_began, test_ended = command("test", options, environment)
        at, seconds = stages_of(run)["test"]
    inside = {name: taken for name, (_, taken) in sorted(stages.items(), key=lambda entry: entry[1][0])}
    parts = {START: first - began, **inside, BETWEEN: last - first - sum(inside.values()), END: ended - last}
    return {**parts, TEST_START: at - test_began, "test": seconds, TEST_END: test_ended - at - seconds}


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
