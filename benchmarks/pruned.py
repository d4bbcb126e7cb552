"""Each side with its own pruning: how long until the same best val accuracy?

The target of a seed is the highest val accuracy that both sides come to. tuner's accuracies count from the end of the
rung that they belong to, Optuna's from the end of their epoch.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.drive import reached
from benchmarks.part import Asked, cifar10_root
from benchmarks.task import Task, ask, make_subset

SPACE = {"optimizer.lr": (1e-4, 1.0), "optimizer.weight_decay": (1e-6, 1e-2)}  # both sides: in the logarithm
OWN = {"optimizer.lr": 1e-2, "optimizer.weight_decay": 1e-4}  # both sides: the first configuration, the space's middle
SIDES = {"a": "benchmarks.pruned_usual", "d": "benchmarks.pruned_ours"}
AIM = 4.0


@dataclass(frozen=True)
class Sizes:
    trials: int = 16
    epochs: int = 5
    images: int = 10_000


def measure(asked: Asked, sizes: Sizes) -> dict[str, Any]:
    """Run both sides for each seed, one after the other."""
    if (root := cifar10_root(asked, "pruned")) is None:
        return {}
    work = asked.work / "pruned"
    work.mkdir(exist_ok=True)
    task = asdict(Task("cifar10", str(make_subset(root, sizes.images, work)), str(work), sizes.trials, sizes.epochs))
    of = {"part": "pruned", **asdict(sizes)}
    ways = asked.lines.once({**of, "side": "ways of a"}, lambda: ask(SIDES["a"], {"task": task}))
    asked.say(f"pruned: (a) is fastest with {ways['way']}: {ways['rates']} examples/s")
    seeds = []
    for seed in range(asked.seeds):
        sides: dict[str, Any] = {}
        for name in sorted(SIDES, reverse=bool(seed % 2)):
            given = {"task": task, "seed": seed, "way": ways["way"]}
            sides[name] = asked.lines.once({**of, "side": name, "seed": seed}, lambda n=name, g=given: ask(SIDES[n], g))
            side = sides[name]
            asked.say(f"pruned: ({name}) seed {seed}: {side['seconds']:.0f} s, best val accuracy {side['best']:.4f}")
        seeds.append(sides)
    return {"sizes": asdict(sizes), "ways": ways["rates"], "seeds": seeds}


def compared(sides: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return a seed's target, the seconds of both sides until it, and their ratio."""
    target = min(side["best"] for side in sides.values())
    seconds = {name: reached(side["points"], target, 0) or 0.0 for name, side in sides.items()}
    return {"target": target, **seconds, "ratio": seconds["a"] / seconds["d"]}


def section(found: Mapping[str, Any]) -> list[str]:
    """Return the lines of the page."""
    sizes, seeds = found["sizes"], found["seeds"]
    rows = [compared(sides) for sides in seeds]
    lines = [
        f"## Time to the same best val accuracy, each side with its own pruning: CIFAR-10 folder, {sizes['images']} "
        f"images, conv net 32-64-128, batch 64, {sizes['trials']} trials x at most {sizes['epochs']} epochs",
        "",
        "| seed | target | (a) Optuna TPE + ASHA: s | best | epochs | (d) tuner coarse: s | best | epochs | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for seed, (sides, row) in enumerate(zip(seeds, rows, strict=True)):
        cells = [
            f"{row[n]:.1f} of {sides[n]['seconds']:.1f} | {sides[n]['best']:.4f} | {sides[n]['epochs']}" for n in "ad"
        ]
        lines.append(f"| {seed} | {row['target']:.4f} | {' | '.join(cells)} | {row['ratio']:.2f} |")
    ratios = [row["ratio"] for row in rows]
    whole = [sides["a"]["seconds"] / sides["d"]["seconds"] for sides in seeds]
    lines += [
        "",
        f"tuner is {words(ratios)} times as fast to the target (aim: {AIM:g}); the whole searches: {words(whole)}.",
    ]
    lines += ["", *(f"- ({name}) {apart_words([sides[name] for sides in seeds])}" for name in "ad")]
    return [
        *lines,
        f"- ways of (a), examples/s: {', '.join(f'{way}: {rate:,}' for way, rate in found['ways'].items())}",
    ]


def words(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f} (median of {len(ratios)}; {min(ratios):.2f} to {max(ratios):.2f})"


def apart_words(sides: Sequence[Mapping[str, Any]]) -> str:
    """Return how a side ran, and its median seconds that are not counted."""
    apart = {what: statistics.median(side["apart"][what] for side in sides) for what in sides[0]["apart"]}
    return f"{sides[0]['note']}; apart: {', '.join(f'{what} {seconds:.1f} s' for what, seconds in apart.items())}"
