"""Run the comparisons, interleaved, print their ratios and keep them in benchmarks/results/."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks import commands, pages, report
from benchmarks.task import MARK, Outcome, Task, make_subset

SIDES = {"a": "benchmarks.usual", "b": "benchmarks.ray_tune", "c": "benchmarks.bare", "d": "benchmarks.ours"}
PARTS = ("cifar10", "digits", "commands", "pages")


def main() -> None:
    options = parsed()
    only = set(options.only or [*PARTS, *SIDES])
    parts = [part for part in PARTS if part in only] or list(PARTS)
    sides = {name: module for name, module in SIDES.items() if name in only} or SIDES
    found: dict[str, object] = {"machine": report.machine(), "options": vars(options)}
    with tempfile.TemporaryDirectory(prefix="tuner-bench-", dir=options.work) as work:
        if "cifar10" in parts:
            root = Path(os.environ.get("TUNER_DATA", ""), "cifar10")
            if not os.environ.get("TUNER_DATA") or not (root / "train").is_dir():
                say("cifar10: skipped, there is no $TUNER_DATA/cifar10/train/<class>/*.jpg")
            else:
                folder = make_subset(root, options.images, Path(work))
                task = Task("cifar10", str(folder), work, options.trials, options.epochs)
                found["cifar10"] = compare(task, sides, options)
        if "digits" in parts:
            task = Task("digits", "", work, 4 * options.trials, max(1, options.epochs * 5 // 2))
            found["digits"] = compare(task, sides, options)
        if "pages" in parts:
            found["pages"] = pages.measure(Path(work))
        if "commands" in parts:
            found["commands"] = commands.measure(Path(work), 10)
    page = report.page(found)
    print(page)
    report.keep(options.name, found, page)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--trials", type=int, default=16, help="trials on CIFAR-10; four times as many on digits")
    parser.add_argument("--epochs", type=int, default=2, help="epochs on CIFAR-10; 2.5 times as many on digits")
    parser.add_argument("--images", type=int, default=10_000, help="images of CIFAR-10, 80 %% of them train")
    parser.add_argument("--repeats", type=int, default=3, help="times that each side runs, one after the other")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"some of: {', '.join((*PARTS, *SIDES))}")
    parser.add_argument("--name", help="of the files in benchmarks/results (default: the date)")
    parser.add_argument("--work", help="folder for what is made on the way (default: the system's temporary folder)")
    parser.add_argument("--ray-python", default=sys.executable, help="a Python that has ray, for side b")
    options = parser.parse_args()
    if unknown := set(options.only or ()) - {*PARTS, *SIDES}:
        parser.error(f"--only: unknown {', '.join(sorted(unknown))} (known: {', '.join((*PARTS, *SIDES))})")
    return options


def compare(task: Task, sides: dict[str, str], options: argparse.Namespace) -> dict[str, list[dict[str, object]]]:
    """Run the sides one after the other, and all of that `repeats` times; return their outcomes."""
    found: dict[str, list[dict[str, object]]] = {}
    for repeat in range(options.repeats):
        for name, module in sides.items():
            python = options.ray_python if name == "b" else sys.executable
            if name == "b" and not has_ray(python):
                if repeat == 0:
                    say("(b): skipped, ray is not installed: pip install 'tuner[bench]'")
                continue
            say(f"{task.kind}: ({name}) {repeat + 1}/{options.repeats} ...", end=" ")
            outcome = run(python, module, task)
            say(f"{outcome.seconds:.1f} s, {outcome.rate:,.0f} examples/s, best val accuracy {outcome.best:.4f}")
            found.setdefault(name, []).append({**asdict(outcome), "rate": outcome.rate})
    return found


def run(python: str, module: str, task: Task) -> Outcome:
    """Run one side in a process of its own."""
    command = [python, "-m", module, json.dumps(asdict(task))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not lines:
        raise SystemExit(f"{module} ended without a result (exit code {done.returncode}):\n{done.stderr[-3000:]}")
    return Outcome(**json.loads(lines[-1].removeprefix(MARK)))


def has_ray(python: str) -> bool:
    if python == sys.executable:
        return importlib.util.find_spec("ray") is not None
    return subprocess.run([python, "-c", "import ray"], capture_output=True).returncode == 0


def say(text: str, end: str = "\n", to: Callable[..., None] = print) -> None:
    to(text, end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
