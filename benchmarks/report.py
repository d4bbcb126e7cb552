"""What was found, as a short page of Markdown and as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
NAMES = {
    "a": "(a) Optuna, plain loop, DataLoader, torchvision transforms",
    "b": "(b) the same under Ray Tune, two trials at once",
    "c": "(c) the bare loop by hand, a process per core",
    "d": "(d) tuner",
    "e": "(e) tuner, every trial by itself",
}
TARGETS = {
    ("cifar10", "a"): 4.5,
    ("cifar10", "b"): 2.5,
    ("cifar10", "c"): 0.95,
    ("digits", "a"): 2.0,
    ("digits", "c"): 2.0,
}


def machine() -> dict[str, Any]:
    """Say what this ran on."""
    import torch

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":")[1].strip() if lines else model
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), **versions}


def page(found: Mapping[str, Any], sections: Sequence[str] = ()) -> str:
    """Write the page; `sections`: the lines of the parts that write their own."""
    there = found["machine"]
    options = found["options"]
    lines = [f"# Benchmarks: {there['cores']} cores of {there['cpu']}, torch {there['torch']}", ""]
    titles = {
        "cifar10": f"CIFAR-10 folder, {options['images']} images, conv net 32-64-128, {options['trials']} trials x "
        f"{options['epochs']} epochs, batch 64",
        "digits": f"Digits, mlp 128-128, {4 * options['trials']} trials x {max(1, options['epochs'] * 5 // 2)} epochs, "
        "batch 64",
    }
    for kind, title in titles.items():
        if found.get(kind):
            lines += [f"## {title}", "", *table(kind, found[kind]), ""]
    lines += sections
    if pages := found.get("pages"):
        lines += ["## Pages of the cache's mapping in two workers (kB, /proc/PID/smaps)", "", *pages_table(pages), ""]
    if commands := found.get("commands"):
        lines += ["## Commands (seconds)", "", "| command | n | median | least | most |", "|---|---|---|---|---|"]
        for command, seconds in commands.items():
            lines.append(f"| `{command}` | {' | '.join(spread(seconds, '.3f'))} |")
        lines.append("")
    return "\n".join(lines)


def table(kind: str, sides: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return the rows of a comparison: examples per second, and tuner's ratio to each side, run by run."""
    head = "| side | n | examples/s, median | least | most | tuner is x times as fast: median | least | most | aim |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    ours = [outcome["rate"] for outcome in sides.get("d", ())]
    for name, outcomes in sides.items():
        rates = [outcome["rate"] for outcome in outcomes]
        cells = spread(rates, ",.0f")
        ratios = [mine / theirs for mine, theirs in zip(ours, rates, strict=False)]
        compared = spread(ratios, ".2f")[1:] if ratios and name != "d" else ["", "", ""]
        aim = TARGETS.get((kind, name))
        goal = f"{aim:g}" if aim is not None else ""
        lines.append(f"| {NAMES[name]} | {' | '.join(cells)} | {' | '.join(compared)} | {goal} |")
    lines.append("")
    for name, outcomes in sides.items():
        last = outcomes[-1]
        first = {what: f"{seconds:.1f} s" for what, seconds in outcomes[0]["apart"].items()}
        apart = ", ".join(f"{what} {seconds}" for what, seconds in first.items())
        best = statistics.median(outcome["best"] for outcome in outcomes)
        lines.append(f"- ({name}) {last['note']}; best val accuracy {best:.4f}; apart, in the first run: {apart}")
    return lines


def pages_table(pages: Mapping[str, Any]) -> list[str]:
    lines = [
        "| process | size | resident | shared clean | private clean | private dirty |",
        "|---|---|---|---|---|---|",
    ]
    keys = ("Size", "Rss", "Shared_Clean", "Private_Clean", "Private_Dirty")
    for pid, sizes in pages["processes"].items():
        lines.append(f"| {pid} | {' | '.join(str(sizes[key]) for key in keys)} |")
    return lines


def spread(values: Sequence[float], form: str) -> list[str]:
    """Return n, median, least and most in words."""
    return [str(len(values)), *(format(f(values), form) for f in (statistics.median, min, max))]


def keep(name: str, found: Mapping[str, Any], text: str) -> None:
    """Write the page and the numbers."""
    RESULTS.mkdir(exist_ok=True)
    numbers = {**found, "options": {k: v for k, v in found["options"].items() if k not in ("work", "ray_python")}}
    (RESULTS / f"{name}.json").write_text(json.dumps(numbers, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(text)
