"""Run the comparisons, interleaved, print their ratios and keep them in benchmarks/results/."""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from benchmarks import commands, coverage, equal_time, pages, planned, pruned, report, search, sweep, tables
from benchmarks.lines import Lines
from benchmarks.part import Asked, cifar10_root
from benchmarks.task import Outcome, Task, ask, make_subset

SIDES = {
    "a": "benchmarks.usual",
    "b": "benchmarks.ray_tune",
    "c": "benchmarks.bare",
    "d": "benchmarks.ours",
    "e": "benchmarks.by_itself",
}
MODULES: dict[str, Any] = {
    "pruned": pruned,
    "search": search,
    "coverage": coverage,
    "planned": planned,
    "sweep": sweep,
    "tables": tables,
    "equal_time": equal_time,
}
PARTS = ("cifar10", "digits", *MODULES, "commands", "pages")


def main() -> None:
    options = parsed()
    only = set(options.only or [*PARTS, *SIDES])
    parts = [part for part in PARTS if part in only] or ["cifar10", "digits"]
    sides = {name: module for name, module in SIDES.items() if name in only} or SIDES
    found: dict[str, Any] = {"machine": report.machine(), "options": vars(options)}
    with tempfile.TemporaryDirectory(prefix="tuner-bench-", dir=options.work) as work:
        asked = Asked(Path(work), Lines(report.RESULTS / f"{options.name}.jsonl"), options.seeds, say)
        if "cifar10" in parts and (root := cifar10_root(asked, "cifar10")) is not None:
            folder = make_subset(root, options.images, Path(work))
            task = Task("cifar10", str(folder), work, options.trials, options.epochs)
            found["cifar10"] = compare(task, sides, options, asked.lines)
        if "digits" in parts:
            task = Task("digits", "", work, 4 * options.trials, max(1, options.epochs * 5 // 2))
            found["digits"] = compare(task, sides, options, asked.lines)
        for name, module in MODULES.items():
            if name in parts:
                found[name] = module.measure(asked, sizes(name, options))
        if "pages" in parts:
            found["pages"] = pages.measure(Path(work))
        if "commands" in parts:
            found["commands"] = commands.measure(Path(work), 10)
    sections = [
        line for name, module in MODULES.items() if found.get(name) for line in (*module.section(found[name]), "")
    ]
    page = report.page(found, sections)
    print(page)
    report.keep(options.name, found, page)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--trials", type=int, default=16, help="trials on CIFAR-10; four times as many on digits")
    parser.add_argument("--epochs", type=int, default=2, help="epochs on CIFAR-10; 2.5 times as many on digits")
    parser.add_argument("--images", type=int, default=10_000, help="images of CIFAR-10, 80 %% of them train")
    parser.add_argument("--repeats", type=int, default=3, help="times that each side runs, one after the other")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of the parts pruned and search")
    for name, module in MODULES.items():
        for field in fields(module.Sizes):
            text = f"{field.name.replace('_', ' ')} of the part {name} (default: {field.default})"
            parser.add_argument(flag(name, field.name), type=type(field.default), default=field.default, help=text)
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"some of: {', '.join((*PARTS, *SIDES))}")
    today = datetime.date.today().isoformat()
    text = "of the files in benchmarks/results (default: the date); what NAME.jsonl holds is not done again"
    parser.add_argument("--name", default=today, help=text)
    parser.add_argument("--work", help="folder for what is made on the way (default: the system's temporary folder)")
    parser.add_argument("--ray-python", default=sys.executable, help="a Python that has ray, for side b")
    options = parser.parse_args()
    if unknown := set(options.only or ()) - {*PARTS, *SIDES}:
        parser.error(f"--only: unknown {', '.join(sorted(unknown))} (known: {', '.join((*PARTS, *SIDES))})")
    return options


def flag(part: str, size: str) -> str:
    return f"--{part}-{size}".replace("_", "-")


def sizes(part: str, options: argparse.Namespace) -> Any:
    """Return the sizes of a part, as the options say."""
    kind = MODULES[part].Sizes
    return kind(**{field.name: getattr(options, f"{part}_{field.name}") for field in fields(kind)})


def compare(
    task: Task, sides: dict[str, str], options: argparse.Namespace, lines: Lines
) -> dict[str, list[dict[str, object]]]:
    """Run the sides one after the other, and all of that `repeats` times; return their outcomes."""
    found: dict[str, list[dict[str, object]]] = {}
    of = {"part": task.kind, "trials": task.trials, "epochs": task.epochs}
    of |= {"images": options.images} if task.kind == "cifar10" else {}
    for repeat in range(options.repeats):
        for name, module in sides.items():
            python = options.ray_python if name == "b" else sys.executable
            if name == "b" and not has_ray(python):
                if repeat == 0:
                    say("(b): skipped, ray is not installed: pip install 'tuner[bench]'")
                continue
            say(f"{task.kind}: ({name}) {repeat + 1}/{options.repeats} ...", end=" ")
            one = {**of, "side": name, "repeat": repeat}
            outcome = Outcome(**lines.once(one, lambda m=module, p=python: ask(m, asdict(task), p)))
            say(f"{outcome.seconds:.1f} s, {outcome.rate:,.0f} examples/s, best val accuracy {outcome.best:.4f}")
            found.setdefault(name, []).append({**asdict(outcome), "rate": outcome.rate})
    return found


def has_ray(python: str) -> bool:
    if python == sys.executable:
        return importlib.util.find_spec("ray") is not None
    return subprocess.run([python, "-c", "import ray"], capture_output=True).returncode == 0


def say(text: str, end: str = "\n", to: Callable[..., None] = print) -> None:
    to(text, end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
